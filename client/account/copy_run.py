"""A copy from one vault to another as the account sees it: job, sessions, locks; the engine does the rest.

Kept true: every way that a copy ends is the end of its job, with the status that the exit code says too; a session that
a node has ended, of either vault, is followed by new ones, which go on from what is stored.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from client.account.device import Device
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, carrying_out, report_kept
from client.account.opening import Place, place_of
from client.account.reading import Unreadable, lock_to_read
from client.copying.run import CopySummary, copy_snapshots
from client.errors import NoSuchSnapshot, OortError, SessionOver, UsageError
from client.reachability.findings import Progress
from client.vault.locks import vault_lock
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import Snapshot
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectName
from domain.sessions import Purpose

_SESSIONS = 4  # that may be ended under one copy


@dataclass(frozen=True, slots=True)
class CopyResult:
    """`unread` are objects of the source that cannot be read, and why; `untold` is why auth has not heard the end."""

    summary: CopySummary
    unread: dict[ObjectName, str]
    job: str
    untold: OortError | None


@dataclass(frozen=True, slots=True)
class CopyView:
    """Hears how it goes: of the index read, and what is looked at, how many are done, and of how many."""

    index_read: Callable[[int, int], None] | None
    progress: Progress


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
        self._view = view
        self._sent_before = 0  # by sessions that were ended
        self._unread: dict[ObjectName, str] = {}
        self._job = RunningJob(device, JobKind.IMPORT, target.entry.id)

    def carry_out(self) -> CopyResult:
        with carrying_out(self._job):
            summary = self._in_sessions()
        for one in summary.copied:
            self._job.log(INFO, f"Snapshot {one.snapshot.id} copied from {self._source.entry.name}: {one.copy}")
        for name, reason in self._unread.items():
            self._job.log(WARNING, f"{name}: cannot be read: {reason}")
        for snapshot, reason in summary.lost.items():
            self._job.log(ERROR, f"Snapshot {snapshot} is not copied: {reason}")
        warnings = len(self._unread) + len(summary.lost)
        self._job.advanced(JobCounts(uploaded_bytes=summary.uploaded_bytes, warnings=warnings))
        status = JobStatus.ERROR if summary.lost else JobStatus.WARNING if self._unread else JobStatus.SUCCESS
        last = summary.copied[-1].copy if summary.copied else ""
        return CopyResult(summary, self._unread, self._job.id, self._job.end(status, snapshot=last))

    def _in_sessions(self) -> CopySummary:
        for _ in range(_SESSIONS - 1):
            try:
                return self._in_session()
            except SessionOver as over:
                self._job.log(INFO, str(over))
        return self._in_session()

    def _in_session(self) -> CopySummary:
        with ExitStack() as opened:
            source, snapshots = self._open_source(opened)
            session = opened.enter_context(self._target.store.open(Purpose.BACKUP))
            try:
                target = opened.enter_context(self._target.open_or_create(session))
                if target.config.id == source.config.id:
                    raise UsageError(
                        detail="--from and --to are one vault, or one was made of the other file by file: name two"
                    )
                self._target.ensure_seal(session)
                store = self._target.store
                lock = opened.enter_context(vault_lock(target, needed=store.needs_locks, place=store.place))
                target.load_index(self._view.index_read)
                summary = copy_snapshots(
                    source,
                    target,
                    snapshots,
                    lost=session.lost,
                    locked=lock is not None,
                    ensure_locked=_nothing if lock is None else lock.ensure_held,
                    progress=self._view.progress,
                )
                summary.uploaded_bytes += self._sent_before
                return summary
            finally:
                self._sent_before += getattr(session, "sent_bytes", 0)

    def _open_source(self, opened: ExitStack) -> tuple[Vault, list[Snapshot]]:
        """The vault to copy from, and the snapshots that are wanted of it."""
        place = self._source
        session = opened.enter_context(place.store.open(Purpose.READ))
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot=self._wanted[0] if self._wanted else "latest")
        opened.enter_context(vault)
        unread: Unreadable = {}
        if self._wanted:
            # Each once, as two may name the same.
            snapshots = list(dict.fromkeys(vault.find_snapshots(self._wanted, device=self._device.id)))
        else:
            snapshots = vault.snapshots(unread.__setitem__)
        lock_to_read(opened, place, vault)
        unread.update(vault.load_index(self._view.index_read).damaged)
        self._unread = {name: reason_unread(error) for name, error in unread.items()}
        return vault, snapshots


def _nothing() -> None:
    """No lock can be lost where none is needed."""
