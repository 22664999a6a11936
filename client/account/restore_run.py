"""A restore as the account sees it: job, session, lock; the restore engine does the rest.

Kept true: what of the vault cannot be read is named, and stops nothing. A dry run is no job.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from client.account.device import Device
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, carrying_out, report_kept
from client.account.reading import Reading, Unreadable, reading
from client.errors import OortError
from client.restore.deletion import Deletions, plan_deletions
from client.restore.request import RestoreOptions, RestoreSummary, RestoreTally, Step
from client.restore.run import restore
from client.restore.way import refuse_vaults
from client.vault.repository import reason_unread
from client.vault.snapshots import Snapshot
from domain.jobs import JobKind, JobStatus


class RestoreView(Protocol):
    """Shows a person how it goes. Called from several threads, one call at a time."""

    def index_read(self, done: int, total: int) -> None:
        """Files of the vault's index that have been read, and that there are to read; before all else."""

    def advanced(self, tally: RestoreTally) -> None: ...

    def warned(self, path: bytes, reason: str) -> None: ...

    def damaged(self, path: bytes, reason: str) -> None: ...

    def would(self, step: Step, path: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """`untold` is why auth has not heard the end of the job yet, if it has not; a dry run has no `job`."""

    summary: RestoreSummary
    snapshot: Snapshot
    job: str
    untold: OortError | None


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What to restore and where to; `deletes` takes away what the target has beyond it.

    The snapshot `latest` is of this device, unless `all_devices`.
    """

    snapshot: str
    target: Path
    options: RestoreOptions
    deletes: bool = False
    all_devices: bool = False


def run_restore(
    device: Device, vault_name: str, order: RestoreOrder, view: RestoreView, agree: Callable[[Deletions], None]
) -> RestoreResult:
    """Restore a snapshot. `agree` raises if a person does not want what is to be deleted, before anything is done.

    Raises OortError; KeyboardInterrupt ends the job as cancelled.
    """
    refuse_vaults(order.target)
    with reading(device, vault_name, order.snapshot, all_devices=order.all_devices, progress=view.index_read) as opened:
        options = replace(order.options, protected=opened.protected())
        deletions = Deletions(())
        if order.deletes:
            deletions = plan_deletions(opened.vault, opened.snapshot, order.target, options.patterns, options.protected)
            if deletions.paths and not options.dry_run:
                agree(deletions)
        if options.dry_run:
            return RestoreResult(_try_out(opened, order.target, options, deletions, view), opened.snapshot, "", None)
        with suppress(OortError):  # they are told by a later command, and this one has work to do
            report_kept(device)
        job = RunningJob(device, JobKind.RESTORE, opened.place.entry.id, opened.snapshot.item)
        run = _RestoreRun(job, view)
        summary, untold = run.carry_out(opened, order.target, options, deletions)
        return RestoreResult(summary, opened.snapshot, run.job.id, untold)


def _try_out(
    opened: Reading, target: Path, options: RestoreOptions, deletions: Deletions, view: RestoreView
) -> RestoreSummary:
    for name, reason in _named(opened.unreadable):
        view.warned(name, reason)
    vault = opened.vault
    return restore(vault, vault.session, opened.snapshot, target, options, deletions=deletions, progress=view)


def _named(unreadable: Unreadable) -> list[tuple[bytes, str]]:
    return [(str(name).encode(), f"cannot be read: {reason_unread(error)}") for name, error in unreadable.items()]


class _RestoreRun:
    """One job."""

    def __init__(self, job: RunningJob, view: RestoreView) -> None:
        self.job = job
        self._view = view
        self._warnings = 0

    def carry_out(
        self,
        opened: Reading,
        target: Path,
        options: RestoreOptions,
        deletions: Deletions,
    ) -> tuple[RestoreSummary, OortError | None]:
        """Restore, and end the job with what came of it."""
        vault, snapshot = opened.vault, opened.snapshot
        with carrying_out(self.job):
            for name, reason in _named(opened.unreadable):
                # No warning of the restore's own: if something of the snapshot is lost, that is told as such.
                self.warned(name, reason)
            summary = restore(vault, vault.session, snapshot, target, options, deletions=deletions, progress=self)
        self.job.log(INFO, f"Snapshot {snapshot.id} restored to {target}")
        self.job.advanced(
            JobCounts(
                files=summary.files,
                folders=summary.dirs,
                bytes=summary.bytes,
                downloaded_bytes=summary.fetched_bytes,
                total_files=summary.files,
                total_bytes=summary.bytes,
                warnings=summary.warned + summary.lost,
            )
        )
        status = JobStatus.WARNING if summary.warnings else JobStatus.SUCCESS
        return summary, self.job.end(JobStatus.ERROR if summary.damaged else status, snapshot=snapshot.id)

    # What the engine tells

    def advanced(self, tally: RestoreTally) -> None:
        self.job.advanced(
            JobCounts(
                files=tally.files,
                folders=tally.dirs,
                bytes=tally.done_bytes,
                downloaded_bytes=tally.done_bytes,
                total_files=tally.total_files if tally.planned else 0,
                total_bytes=tally.total_bytes if tally.planned else 0,
                warnings=self._warnings,
            )
        )
        self._view.advanced(tally)

    def warned(self, path: bytes, reason: str) -> None:
        self._warnings += 1
        self.job.log(WARNING, f"{os.fsdecode(path)}: {reason}")
        self._view.warned(path, reason)

    def damaged(self, path: bytes, reason: str) -> None:
        self._warnings += 1
        self.job.log(ERROR, f"{os.fsdecode(path)}: {reason}")
        self._view.damaged(path, reason)

    def would(self, step: Step, path: bytes) -> None:
        self._view.would(step, path)
