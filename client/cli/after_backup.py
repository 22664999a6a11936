"""The retention pass that follows a backup, as a person sees it: nothing where there are no rules or it is not due."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from client.cli.console import emit, note, plural, say, telling
from client.cli.progress import Progress
from client.cli.pruning import describe_prune, show_prune
from client.cli.unread import UnreadParts
from client.errors import AppendOnly, DamagedVault, OortError, OutputLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

    from client.account.device import Device
    from client.errors import ObjectMissing, SnapshotInUse
    from client.retention.plan import Plan
    from client.retention.run import RetentionResult
    from client.vault.snapshots import Snapshot
    from domain.automatic_pass import PassNeed
    from domain.names import ObjectName


class _View:
    """Only what stays against the rules is told, and how far a long prune is."""

    def __init__(self, *, as_json: bool) -> None:
        self.pruning = Progress(as_json=as_json)

    def unread(self, name: "ObjectName", error: "DamagedVault | ObjectMissing") -> None:
        UnreadParts().object(name, error)

    def planned(self, plan: "Plan") -> None:
        """It was not asked for, so it is not told."""

    def in_use(self, snapshot: "Snapshot", error: "SnapshotInUse") -> None:
        note(f"backup-tool: snapshot {snapshot.short_id} stays: {error.why}")


def follow_with_retention(device: "Device", entries: "Sequence[VaultEntry]", level: str, *, as_json: bool) -> int:
    """Do the pass that is due in each vault, by the name of a level.

    Answers the exit code of the first that must be and found damage. Raises OortError if one must be and fails, when
    those of the other vaults are done.
    """
    codes: list[int] = []
    failures: list[OortError] = []
    for entry in entries:
        try:
            codes.append(_follow(device, entry, level, as_json=as_json))
        except OutputLost:
            raise
        except OortError as error:
            failures.append(error)
    for failure in failures[1:]:
        note(f"backup-tool: {failure}")
    if failures:
        raise failures[0]
    return next(filter(None, codes), 0)


def _follow(device: "Device", entry: "VaultEntry", level: str, *, as_json: bool) -> int:
    if not entry.HasField("retention") and not entry.item_retention:
        return 0  # as with most backups, which wait for no more imports
    from client.retention.automatic import pass_after_backup
    from client.retention.prune import PruneLimits
    from client.retention.run import RetentionOrder
    from client.retention.zones import local_zone
    from domain.automatic_pass import PassLevel, PassNeed

    order = RetentionOrder(datetime.now(UTC), local_zone(os.environ)[0], prune=PruneLimits())
    done = pass_after_backup(device, entry.name, PassLevel[level], order, _View(as_json=as_json))
    if isinstance(done.failure, AppendOnly):
        note(f"backup-tool: retention is due, but not from here: {done.failure}")
    elif done.failure is not None:
        if done.need is PassNeed.MUST:
            raise done.failure
        note(f"backup-tool: no retention this time: {done.failure}")
    if done.result is not None:
        with telling(f"{plural(len(done.result.removed), 'snapshot')} removed by the retention rules"):
            _tell(done.result, done.need, as_json=as_json)
        if done.result.damages and done.need is PassNeed.MUST:
            return DamagedVault.exit_code
    return 0


def _tell(result: "RetentionResult", need: "PassNeed", *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "type": "retention",
                "need": need.value,
                "removed": [snapshot.id for snapshot in result.removed],
                "in_use": [snapshot.id for snapshot in result.in_use],
                "prune": describe_prune(result.pruned) if result.pruned else None,
                "job": result.job,
            }
        )
    else:
        say(f"Retention: {plural(len(result.removed), 'snapshot')} removed that no rule keeps.")
        if result.pruned is not None:
            show_prune(result.pruned)
