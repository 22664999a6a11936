"""Tags and notes of snapshots, given at a backup or changed later.

Kept true: a changed snapshot is stored before the old one is removed, and where a running backup builds on the old one
it is the new one that goes; a command that was interrupted between the two is completed by the same command again.
Tags that begin with `oort:` are not a user's to give or to take.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from client.account.device import Device
from client.account.opening import place_of
from client.errors import NoSuchSnapshot, SnapshotInUse, UsageError
from client.vault.locks import VaultLock
from client.vault.repository import Vault
from client.vault.snapshots import NOTE_TAG, RESERVED_TAGS, Snapshot, decode_snapshot, retag_document
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

NOTE_CHARACTERS = 2000
_TAG_CHARACTERS = 200

Retag = Callable[[Snapshot], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Changed:
    """A snapshot before and after; the same if there was nothing to change."""

    old: Snapshot
    new: Snapshot


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags that a user gives, each once. Raises UsageError."""
    for tag in tags:
        if tag.startswith(RESERVED_TAGS):
            raise UsageError(detail=f"The tag {tag!r} is refused: those that begin with '{RESERVED_TAGS}' are ours.")
        if not tag or "," in tag or not tag.isprintable() or len(tag) > _TAG_CHARACTERS:
            raise UsageError(
                detail=f"A tag has 1 to {_TAG_CHARACTERS} printable characters and no comma: not {tag[:50]!r}."
            )
    return tuple(dict.fromkeys(tags))


def note_tags(text: str) -> tuple[str, ...]:
    """The tag that holds a note; none for an empty one. Raises UsageError."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(detail="The note is not valid UTF-8 text.") from None
    if len(text) > NOTE_CHARACTERS:
        raise UsageError(detail=f"A note has at most {NOTE_CHARACTERS:,} characters, and this one {len(text):,}.")
    return (f"{NOTE_TAG}{text}",) if text else ()


def retagging(add: Sequence[str], remove: Sequence[str], only: Sequence[str] | None) -> Retag:
    """A change of a user's tags: `only` these, or some more and some less. Raises UsageError."""
    added, removed = checked_tags(add), set(checked_tags(remove))
    kept = None if only is None else checked_tags(only)

    def retag(snapshot: Snapshot) -> Sequence[str]:
        ours = [tag for tag in snapshot.tags if tag.startswith(RESERVED_TAGS)]
        users = [tag for tag in snapshot.user_tags if tag not in removed] if kept is None else kept
        return (*ours, *dict.fromkeys((*users, *added)))

    return retag


def noting(text: str) -> Retag:
    """Another note, or none. Raises UsageError."""
    note = note_tags(text)
    return lambda snapshot: (*(tag for tag in snapshot.tags if not tag.startswith(NOTE_TAG)), *note)


def change_snapshots(
    device: Device, vault_name: str, wanted: Sequence[str], retag: Retag, *, all_devices: bool
) -> Iterator[Changed]:
    """Give snapshots other tags, one after another; which they are is found out before any is changed.

    Raises NoSuchSnapshot, SnapshotInUse when a running backup builds on one, or the storage holds it (which then is as
    it was), VaultLocked, StoreError.
    """
    with place_of(device, vault_name) as place, place.store.open(Purpose.RETENTION) as session:
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot=wanted[0])
        own = None if all_devices else device.id
        with vault, place.locked(vault, exclusive=True) as lock:
            known = vault.snapshots(lambda *_: None)
            chosen = dict.fromkeys(vault.find_snapshots(wanted, device=own))
            for snapshot in chosen:
                yield Changed(snapshot, _change(vault, snapshot, retag(snapshot), known, lock))


def _change(
    vault: Vault, old: Snapshot, tags: Sequence[str], known: Sequence[Snapshot], lock: VaultLock | None
) -> Snapshot:
    if tuple(tags) == old.tags:
        return old
    old_name = ObjectName(ObjectKind.SNAPSHOT, old.id)
    document = retag_document(vault.load_unpacked(old_name), old, tags)
    wanted = decode_snapshot(document)
    # What an interrupted command stored is taken, so that it is not there twice.
    stored = next((one for one in known if replace(one, id="") == wanted), None)
    if stored is None:
        name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, document)
        vault.session.commit(name, body)
        stored = replace(wanted, id=name.id)
    if lock is not None:
        lock.ensure_held()
    try:
        vault.session.remove(old_name)
    except SnapshotInUse:
        # The one answer that says that the old one stays. After any other failure it may be gone, and the new one
        # is all that there is.
        vault.session.remove(ObjectName(ObjectKind.SNAPSHOT, stored.id))
        raise
    return stored
