"""What a storage node's refusal means to a person: reasons of the role's enum as errors of the client."""

from client.errors import (
    DamagedVault,
    NameMismatch,
    NotSupported,
    ObjectMissing,
    OortError,
    ParentGone,
    QuotaExceeded,
    RetentionRunning,
    SealChanged,
    SessionOver,
    SnapshotHeld,
    SnapshotInUse,
    StoreError,
    StoreFull,
)
from client.rpc import Refusal
from domain.names import CONFIG

_OF_PLACE = {"SESSION_OVER": SessionOver, "RETENTION_RUNNING": RetentionRunning, "SEAL_CHANGED": SealChanged}


def translate(refusal: Refusal, place: str, name: str = "", parent: str = "") -> OortError:
    """The client's error for a node's refusal of a call about `name`."""
    said = refusal.message.strip().rstrip(".").partition(". ")[0]  # the advice is ours to give
    error: OortError
    match refusal.reason:
        case reason if reason in _OF_PLACE:
            error = _OF_PLACE[reason](place=place)
        case "PARENT_GONE":
            error = ParentGone(place=place, parent=parent)
        case "SNAPSHOT_IN_USE" | "HELD" as reason:
            error = _stays(reason, place, name, said)
        case "NAME_MISMATCH":
            error = NameMismatch(place=place, name=name)
        case "QUOTA_EXCEEDED":
            error = QuotaExceeded(place=place, detail=said)
        case "DISK_FULL":
            error = StoreFull(place=place, detail=said)
        case reason if _is_missing(reason, name):
            error = ObjectMissing(place=place, name=name)
        case "DAMAGED" if name:
            error = DamagedVault(name=name, detail=said)
        case "NOT_ALLOWED" | "MARKED_ALREADY" | "MARK_NEEDED":
            error = NotSupported(place=place, detail=said)
        case _:
            error = StoreError(place=place, detail=said)
    return error


def _stays(reason: str, place: str, name: str, said: str) -> OortError:
    snapshot = name.rpartition("/")[2][:8]
    if reason == "SNAPSHOT_IN_USE":
        return SnapshotInUse(place=place, snapshot=snapshot)
    return SnapshotHeld(place=place, snapshot=snapshot, detail=said.removeprefix(f"{name} stays: "))


def _is_missing(reason: str, name: str) -> bool:
    return (reason == "NOT_FOUND" and bool(name)) or (reason == "NOT_INITIALISED" and name == str(CONFIG))
