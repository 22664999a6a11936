"""A copy from one vault to another as the account sees it: job, sessions, locks; the engine does the rest.

Kept true: every way that a copy ends is the end of its job, with the status that the exit code says too; a session that
a node has ended, of either vault, is followed by new ones, which go on from what is stored, with the same snapshots.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from client.account.device import Device
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, carrying_out, report_kept
from client.account.opening import Place, place_of
from client.account.reading import Unreadable, lock_to_read
from client.copying.report import Copied, CopyListener, CopySummary, CopyTally
from client.copying.run import CopySession, copy_snapshots
from client.errors import NoSuchSnapshot, OortError, SessionOver, UsageError
from client.reachability.findings import Progress
from client.vault.locks import VaultLock
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import Snapshot
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectName
from domain.sessions import Purpose

_SESSIONS = 4  # that may be ended under one copy


@dataclass(frozen=True, slots=True)
class Unread:
    """A snapshot or index file of the named vault that cannot be read, and why."""

    vault: str
    name: ObjectName
    reason: str


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What came of it; `untold` is why auth has not heard the end."""

    summary: CopySummary
    unread: Sequence[Unread]
    job: str
    untold: OortError | None


@dataclass(frozen=True, slots=True)
class CopyView:
    """Hears how it goes: of the target's index read, of what is looked at in the source, and how far the copy is."""

    index_read: Callable[[int, int], None] | None
    looking: Progress
    advanced: Callable[[CopyTally], None]


def run_copy(device: Device, source: str, target: str, wanted: Sequence[str], view: CopyView) -> CopyResult:
    """Copy snapshots, or all, from the vault `source` to the vault `target`. Raises OortError.

    KeyboardInterrupt ends the job as cancelled.
    """
    with place_of(device, source) as from_place, place_of(device, target, Purpose.BACKUP) as to_place:
        if from_place.entry.id == to_place.entry.id:
            raise UsageError(detail="--from and --to name the same vault: name two")
        with suppress(OortError):  # they are told by a later command, and this one has work to do
            report_kept(device)
        return _CopyRun(device, from_place, to_place, wanted, view).carry_out()


class _CopyRun:
    """One job."""

    def __init__(self, device: Device, source: Place, target: Place, wanted: Sequence[str], view: CopyView) -> None:
        self._device = device
        self._source = source
        self._target = target
        self._wanted = wanted
        self._ids: frozenset[str] | None = None  # of what is wanted, known once the vault was asked
        self._view = view
        self._summary = CopySummary()
        self._counts = JobCounts()
        self._job = RunningJob(device, JobKind.IMPORT, target.entry.id)

    def carry_out(self) -> CopyResult:
        with carrying_out(self._job):
            self._in_sessions()
        summary, unread = self._summary, self._unread()
        for one in unread:
            self._job.log(WARNING, f"{one.name} of {one.vault}: cannot be read: {one.reason}")
        for snapshot, reason in summary.lost.items():
            self._job.log(ERROR, f"Snapshot {snapshot} is not copied: {reason}")
        self._counts.uploaded_bytes = summary.uploaded_bytes
        self._counts.warnings = len(unread) + len(summary.lost)
        self._job.advanced(self._counts)
        status = JobStatus.ERROR if summary.lost else JobStatus.WARNING if unread else JobStatus.SUCCESS
        last = summary.copied[-1].copy if summary.copied else ""
        return CopyResult(summary, unread, self._job.id, self._job.end(status, snapshot=last))

    def _unread(self) -> list[Unread]:
        summary = self._summary
        return [
            Unread(place.entry.name, name, reason)
            for place, unread in ((self._source, summary.unread_source), (self._target, summary.unread_target))
            for name, reason in unread.items()
        ]

    def _in_sessions(self) -> None:
        for _ in range(_SESSIONS - 1):
            try:
                self._in_session()
            except SessionOver as over:
                self._job.log(INFO, str(over))
            else:
                return
        self._in_session()

    def _in_session(self) -> None:
        with ExitStack() as opened:
            found = self._open_source(opened)
            if found is None:
                return
            source, source_lock = found
            snapshots = self._find(source)
            session = opened.enter_context(self._target.store.open(Purpose.BACKUP))
            target = opened.enter_context(self._target.open_or_create(session))
            if target.config.id == source.config.id:
                raise UsageError(
                    detail="--from and --to are one vault, or one was made of the other file by file: name two"
                )
            self._target.ensure_seal(session)
            lock = opened.enter_context(self._target.locked(target))
            target.load_index(self._view.index_read)
            copy_snapshots(
                source,
                target,
                snapshots,
                self._summary,
                session=CopySession(session.lost, lock is not None, lambda: _ensure_held(source_lock, lock)),
                listener=CopyListener(self._view.looking, self._advanced, self._copied),
            )

    def _open_source(self, opened: ExitStack) -> tuple[Vault, VaultLock | None] | None:
        """The vault to copy from, and the lock that is held there; None if nothing was ever stored in it."""
        place = self._source
        vault = place.open(opened.enter_context(place.store.open(Purpose.READ)))
        if vault is None:
            if self._wanted:
                raise NoSuchSnapshot(snapshot=self._wanted[0])
            return None
        opened.enter_context(vault)
        return vault, lock_to_read(opened, place, vault)

    def _find(self, vault: Vault) -> list[Snapshot]:
        """The snapshots that are wanted. The lock is held: what is found stays."""
        unread: Unreadable = {}
        if self._wanted and self._ids is None:
            found = vault.find_snapshots(self._wanted, unread.__setitem__, device=self._device.id)
            self._ids = frozenset(snapshot.id for snapshot in found)
            snapshots = list(dict.fromkeys(found))  # each once, as two may name the same
        else:
            snapshots = vault.snapshots(unread.__setitem__)
        if self._ids is not None:  # found by this session or one before
            snapshots = [snapshot for snapshot in snapshots if snapshot.id in self._ids]
            gone = self._ids - {one.id for one in snapshots} - {one.snapshot.id for one in self._summary.copied}
            self._summary.lost.update(dict.fromkeys(sorted(gone), "it is gone, or cannot be read any more"))
        self._summary.unread_source.update({name: reason_unread(error) for name, error in unread.items()})
        return snapshots

    def _advanced(self, tally: CopyTally) -> None:
        self._counts = JobCounts(
            bytes=tally.done_bytes, total_bytes=tally.total_bytes, uploaded_bytes=tally.uploaded_bytes
        )
        self._job.advanced(self._counts)
        self._view.advanced(tally)

    def _copied(self, one: Copied) -> None:
        self._job.log(INFO, f"Snapshot {one.snapshot.id} copied from {self._source.entry.name}: {one.copy}")


def _ensure_held(*locks: VaultLock | None) -> None:
    """Raise LockLost if one of the locks was lost; none is held where none is needed."""
    for lock in locks:
        if lock is not None:
            lock.ensure_held()
