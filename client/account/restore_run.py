"""A restore as the account sees it: job, session, lock; the restore engine does the rest.

Kept true: a session that a node has ended, because this machine slept, is followed by a new one, in which the restore
goes on with what is left. What else of the vault cannot be read is named, and stops nothing.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from client.account.device import Device
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, report_kept
from client.account.opening import Place, place_of
from client.errors import DamagedVault, NoSuchSnapshot, ObjectMissing, OortError, StoreError
from client.interrupts import was_interrupted
from client.restore.request import RestoreSummary, RestoreTally
from client.restore.run import restore
from client.stores.resuming import ResumingSession
from client.vault.locks import VaultLocked, vault_lock
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import Snapshot
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectKind, ObjectName


class RestoreView(Protocol):
    """Shows a person how it goes. Called from several threads, one call at a time."""

    def advanced(self, tally: RestoreTally) -> None: ...

    def warned(self, path: bytes, reason: str) -> None: ...

    def damaged(self, path: bytes, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """`untold` is why auth has not heard the end of the job yet, if it has not."""

    summary: RestoreSummary
    snapshot: Snapshot
    job: str
    untold: OortError | None


def run_restore(  # noqa: PLR0917 - what and where to
    device: Device,
    vault_name: str,
    wanted: str,
    target: Path,
    includes: Sequence[str],
    view: RestoreView,
    *,
    all_devices: bool = False,
) -> RestoreResult:
    """Restore a snapshot; `latest` is of this device unless `all_devices`.

    Raises OortError; KeyboardInterrupt ends the job as cancelled.
    """
    with place_of(device, vault_name) as place, ResumingSession(place.store) as session:
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot=wanted)
        with vault:
            unreadable: dict[ObjectName, DamagedVault | ObjectMissing] = {}
            snapshot = vault.find_snapshot(wanted, unreadable.__setitem__, device=None if all_devices else device.id)
            session.stay_with(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
            with suppress(OortError):  # they are told by a later command, and this one has work to do
                report_kept(device)
            with ExitStack() as locks:
                _lock(locks, place, vault)
                run = _RestoreRun(RunningJob(device, JobKind.RESTORE, place.entry.id, snapshot.item), view)
                summary, untold = run.carry_out(vault, snapshot, target, includes, unreadable)
            return RestoreResult(summary, snapshot, run.job.id, untold)


def _lock(locks: ExitStack, place: Place, vault: Vault) -> None:
    """Hold restic's lock where the store needs one. A disk that cannot be written needs none."""
    try:
        locks.enter_context(vault_lock(vault, needed=place.store.needs_locks, place=place.store.place))
    except VaultLocked:
        raise
    except StoreError:
        return


class _RestoreRun:
    """One job."""

    def __init__(self, job: RunningJob, view: RestoreView) -> None:
        self.job = job
        self._view = view
        self._warnings = 0

    def carry_out(
        self,
        vault: Vault,
        snapshot: Snapshot,
        target: Path,
        includes: Sequence[str],
        unreadable: dict[ObjectName, DamagedVault | ObjectMissing],
    ) -> tuple[RestoreSummary, OortError | None]:
        """`unreadable` are other snapshots, of which a person hears."""
        try:
            self.job.begin()
            for name, error in {**unreadable, **vault.index.damaged}.items():
                # No warning of the restore's own: if something of the snapshot is lost, that is told as such.
                self.warned(str(name).encode(), f"cannot be read: {reason_unread(error)}")
            summary = restore(vault, vault.session, snapshot, target, includes, progress=self)
        except OortError as error:
            self.job.log(ERROR, str(error))
            self.job.end(JobStatus.ERROR)
            raise
        except KeyboardInterrupt:
            self.job.end(JobStatus.CANCELLED)
            raise
        except BaseException:
            if was_interrupted():  # while native code ran, which made another error of it
                self.job.end(JobStatus.CANCELLED)
                raise
            self.job.log(ERROR, "The program failed unexpectedly.")
            self.job.end(JobStatus.ERROR)
            raise
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
