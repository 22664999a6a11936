"""Jobs: every long action of the device, told to auth while it runs, or later when auth cannot be reached.

Kept true: telling never holds up the work, which goes on in other threads; a job is never lost once its record is in
the home. Auth sees counts and sizes, and of a backup to several vaults which they are, and the end and snapshot of
each; errors and log lines are sealed under K, each bound to its job and to its vault or number.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from oort.auth.v1 import jobs_pb2

from client.account.connection import PAGE, Refused, translate
from client.account.device import Device
from client.account.job_record import JobCounts, JobRecord, JobShelf, LogEntry, VaultEnd, keep_or_skip
from client.account.seals import SealPurpose
from client.account.vaults import new_id
from client.errors import BrokenSeal, OortError, QuotaExceeded, ServerError
from client.interrupts import deaf, held, was_interrupted
from client.version import VERSION
from domain.jobs import JobKind, JobStatus

if TYPE_CHECKING:
    from io import BufferedWriter

_TELL_SECONDS = 2.0
_RECORD_SECONDS = 20.0
_LINES_AT_ONCE = 500
_LONGEST_LINE = 8000  # bytes; so many of these fit into a message
_MOST_LINES = 20_000  # of one job; what comes after is counted only

INFO, WARNING, ERROR = (
    jobs_pb2.Severity.SEVERITY_INFO,
    jobs_pb2.Severity.SEVERITY_WARNING,
    jobs_pb2.Severity.SEVERITY_ERROR,
)


class RunningJob:
    """One job of this process. `begin`, then `advanced` and `log` from any thread, then `end`."""

    def __init__(
        self,
        device: Device,
        kind: JobKind,
        vault_id: str,
        item_id: str = "",
        *,
        prune: bool = False,
        vaults: Sequence[str] = (),
    ) -> None:
        """`vaults` are the ids of those of which each has a result of its own (`vault_ended`)."""
        self._device = device
        self._shelf = JobShelf(device.home, device.id)
        self.record = JobRecord(new_id(), kind, vault_id, item_id, time.time_ns(), VERSION, prune=prune)
        self.record.vaults += map(VaultEnd, vaults)
        self._teller = _Teller(device, self.record)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="oort-job", daemon=True)
        self._held: BufferedWriter | None = None
        self.unkept: OortError | None = None  # why the home has no record of it

    @property
    def id(self) -> str:
        return self.record.id

    def begin(self) -> None:
        """Record the job and start telling auth. An interruption comes when this is done, so call `end` for it."""
        with held():
            with suppress(OSError, OortError):  # what is wrong with the home is told by the next line too
                self._held = self._shelf.hold(self.id)
            self.unkept = keep_or_skip(self._shelf, self.record)
            self._thread.start()

    def advanced(self, counts: JobCounts) -> None:
        self.record.counts = counts

    def freed_nothing(self) -> None:
        """All that a prune was to remove has to stay: it is no pass that puts the next one off."""
        self.record.freed_nothing = True

    def vault_ended(self, vault_id: str, status: JobStatus, snapshot: str = "", error: str = "") -> None:
        """Say what became of one of `vaults`, in place of what was said of it before. Seals the error under K.

        It is in the home's record when this returns, if the home can be written: a process may be killed then.
        """
        sealed = b""
        if error:
            plain = error.encode(errors="surrogateescape")[:_LONGEST_LINE]
            sealed = self._device.sealer.seal(SealPurpose.JOB_ERROR, plain, f"{self.id}/{vault_id}")
        with self._lock:
            vaults = self.record.vaults
            at = next(at for at, vault in enumerate(vaults) if vault.vault_id == vault_id)
            before, vaults[at] = vaults[at], VaultEnd(vault_id, status, snapshot, sealed)
            if (before.status, before.snapshot) != (status, snapshot):
                self.unkept = keep_or_skip(self._shelf, self.record)

    def log(self, severity: jobs_pb2.Severity.ValueType, text: str) -> None:
        """Add a line, cut where it is too long. Seals it under K."""
        with self._lock:
            number = len(self.record.lines)
            if number >= _MOST_LINES:
                return
            plain = text.encode(errors="surrogateescape")[:_LONGEST_LINE]
            sealed = self._device.sealer.seal(SealPurpose.JOB_LOG, plain, self._line(number))
            self.record.lines.append(LogEntry(time.time_ns(), severity, sealed))

    def end(self, status: JobStatus, snapshot: str = "") -> OortError | None:
        """Tell auth all of it; answers why not, when it is left for a later command to tell.

        An interruption that comes now is too late, unless a person insists.
        """
        with deaf():
            return self._end(status, snapshot)

    def _end(self, status: JobStatus, snapshot: str) -> OortError | None:
        self._ended.set()
        if self._thread.ident is not None:  # None: interrupted before it was begun
            self._thread.join()
        self.record.snapshot = snapshot
        self.record.end(status, time.time_ns())
        self.unkept = keep_or_skip(self._shelf, self.record)
        try:
            self._teller.finish()
        except OortError as error:
            return error
        else:
            self._shelf.drop(self.id)
            return None
        finally:
            if self._held is not None:
                self._held.close()

    def _line(self, number: int) -> str:
        return f"{self.id}/{number}"

    def _tell(self) -> None:
        recorded = time.monotonic()
        pause = _TELL_SECONDS
        while True:
            try:
                self._teller.progress()
                pause = _TELL_SECONDS
            except OortError:
                pause = min(pause * 2, 60.0)  # told later, at the latest by `end` or by a later command
            if self._ended.wait(pause):
                return
            if time.monotonic() - recorded > _RECORD_SECONDS:
                recorded = time.monotonic()
                with self._lock:
                    self.unkept = keep_or_skip(self._shelf, self.record)


@contextmanager
def carrying_out(job: RunningJob) -> Iterator[None]:
    """Begin a job, and end it with the status that says so if what is inside fails or is interrupted."""
    try:
        job.begin()
        yield
    except OortError as error:
        job.log(ERROR, str(error))
        job.end(status_of(error))
        raise
    except KeyboardInterrupt:
        job.end(JobStatus.CANCELLED)
        raise
    except BaseException:
        if was_interrupted():  # while native code ran, which made another error of it
            job.end(JobStatus.CANCELLED)
            raise
        job.log(ERROR, "The program failed unexpectedly.")
        job.end(JobStatus.ERROR)
        raise


def status_of(error: OortError) -> JobStatus:
    """How a job ends, or what becomes of a vault, by that error."""
    return JobStatus.QUOTA_EXCEEDED if isinstance(error, QuotaExceeded) else JobStatus.ERROR


class _Teller:
    """Brings auth's picture of a job up to its record. Every step may be repeated."""

    def __init__(self, device: Device, record: JobRecord) -> None:
        self._device = device
        self._record = record
        self._started = False
        self._counter = 0
        self._told = JobCounts()  # a job begins with these

    def progress(self) -> None:
        """Raises OortError."""
        self._start()
        counts = self._record.counts
        if counts != self._told:
            self._counter = max(self._counter + 1, time.time_ns() // 1_000_000)
            request = jobs_pb2.ReportProgressRequest(
                job_id=self._record.id, counter=self._counter, counts=_counts(counts)
            )
            self._device.connection.call(self._device.jobs.ReportProgress, request)
            self._told = counts
        self._send_lines()

    def finish(self) -> None:
        """Raises OortError."""
        self._start()
        self._send_lines()
        record = self._record
        request = jobs_pb2.FinishJobRequest(
            job_id=record.id,
            status=record.status,
            ended=_timestamp(record.ended_ns),
            counts=_counts(record.counts),
            snapshot=record.snapshot,
            freed_nothing=record.freed_nothing,
            vaults=[
                jobs_pb2.VaultResult(
                    vault_id=vault.vault_id,
                    status=vault.status,
                    snapshot=vault.snapshot,
                    sealed_error=vault.sealed_error,
                )
                for vault in record.vaults
            ],
        )
        try:
            self._device.connection.ask(self._device.jobs.FinishJob, request)
        except Refused as refused:
            if refused.refusal.reason != "JOB_FINISHED":  # an earlier report came through: nothing more to say
                raise translate(refused.refusal, self._device.connection.server) from None

    def _start(self) -> None:
        if self._started:
            return
        record = self._record
        job = jobs_pb2.Job(
            id=record.id,
            kind=record.kind,
            status=JobStatus.RUNNING_ACTIVE,
            vault_id=record.vault_id,
            item_id=record.item_id,
            started=_timestamp(record.started_ns),
            client_version=record.client_version,
            prune=record.prune,
        )
        self._device.connection.call(self._device.jobs.StartJob, jobs_pb2.StartJobRequest(job=job))
        self._started = True

    def _send_lines(self) -> None:
        record = self._record
        while record.sent_lines < len(record.lines):
            some = record.lines[record.sent_lines : record.sent_lines + _LINES_AT_ONCE]
            lines = [
                jobs_pb2.LogLine(
                    time=_timestamp(line.time_ns),
                    severity=jobs_pb2.Severity.ValueType(line.severity),
                    sealed=line.sealed,
                )
                for line in some
            ]
            request = jobs_pb2.AppendLogRequest(job_id=record.id, first=record.sent_lines, lines=lines)
            self._device.connection.call(self._device.jobs.AppendLog, request)
            record.sent_lines += len(some)


def report_kept(device: Device) -> int:
    """Tell auth of jobs that are still to be told; how many remain. Raises OortError when auth cannot be reached."""
    shelf = JobShelf(device.home, device.id)
    remaining = 0
    for record, lock in shelf.at_rest():
        with lock:
            record.sent_lines = 0  # a record may be older than what was sent; repeated lines are ignored
            try:
                _Teller(device, record).finish()
            except ServerError:
                raise
            except OortError:
                remaining += 1  # refused for itself: the vault is gone, say; the others still go
            else:
                shelf.drop(record.id)
    return remaining


def list_jobs(device: Device, *, all_devices: bool, most: int) -> list[jobs_pb2.Job]:
    """Newest first, at most `most`. Raises OortError."""
    request = jobs_pb2.ListJobsRequest(all_devices=all_devices, page_size=min(most, PAGE))
    pages = device.connection.pages(device.jobs.ListJobs, request)
    return list(islice((job for page in pages for job in page.jobs), most))


def read_log(device: Device, job_id: str) -> Iterator[tuple[jobs_pb2.LogLine, str]]:
    """The lines of a job's log, opened. Raises OortError."""
    pages = device.connection.pages(device.jobs.ListLog, jobs_pb2.ListLogRequest(job_id=job_id))
    for number, line in enumerate(line for page in pages for line in page.lines):
        try:
            body = device.sealer.open(SealPurpose.JOB_LOG, line.sealed, f"{job_id}/{number}")
            text = body.decode(errors="surrogateescape")
        except BrokenSeal:
            text = "(this line does not open with the account's key)"
        yield line, text


def error_of(device: Device, job_id: str, result: jobs_pb2.VaultResult) -> str | None:
    """Why a job left a vault without a snapshot, opened; None if nothing is said."""
    if not result.sealed_error:
        return None
    try:
        body = device.sealer.open(SealPurpose.JOB_ERROR, result.sealed_error, f"{job_id}/{result.vault_id}")
    except BrokenSeal:
        return "(this does not open with the account's key)"
    return body.decode(errors="surrogateescape")


def _timestamp(time_ns: int) -> Timestamp:
    return Timestamp(seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def _counts(counts: JobCounts) -> jobs_pb2.Counts:
    return jobs_pb2.Counts(
        files=counts.files,
        folders=counts.folders,
        bytes=counts.bytes,
        uploaded_bytes=counts.uploaded_bytes,
        downloaded_bytes=counts.downloaded_bytes,
        total_files=counts.total_files,
        total_bytes=counts.total_bytes,
        warnings=counts.warnings,
    )
