import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from hashlib import sha256

from google.protobuf.message import Message
from oort.auth.v1 import jobs_pb2, jobs_pb2_grpc

from domain.jobs import JobKind, JobStatus
from services.auth.gate import Context, Gate, Need
from services.auth.jobs import Finish, Jobs, Listed, Start
from services.auth.names import bounded, new_id, opaque, short_text
from services.auth.store.jobs import Counts, LogLine, VaultResult
from services.common.errors import InvalidArgument
from services.common.messages import (
    datetime_of,
    optional_timestamp_of,
    optional_uuid_of,
    timestamp_of,
    uuid_of,
)
from services.common.paging import page_of

_SNAPSHOT = re.compile(r"(?:[0-9a-f]{64})?")
_LONGEST_PROGRESS = 16 << 10
_LONGEST_LINE = 64 << 10
_MOST_LINES = 1000
_LONGEST_ERROR = 16 << 10
_MOST_VAULTS = 8


class JobsRpc(jobs_pb2_grpc.JobServiceServicer):
    def __init__(self, gate: Gate, jobs: Jobs) -> None:
        self._gate = gate
        self._jobs = jobs

    async def StartJob(self, request: jobs_pb2.StartJobRequest, context: Context) -> jobs_pb2.StartJobResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        job = request.job
        report = Start(
            id=new_id(job.id, "job.id"),
            kind=_kind(job.kind),
            status=_running(job.status),
            vault=optional_uuid_of(job.vault_id, "job.vault_id"),
            item=optional_uuid_of(job.item_id, "job.item_id"),
            started=datetime_of(job.started, "job.started") if job.HasField("started") else None,
            client_version=short_text(job.client_version, "job.client_version"),
            prune=job.prune,
            digest=_digest(request),
        )
        await self._jobs.start(caller, report)
        return jobs_pb2.StartJobResponse()

    async def ReportProgress(
        self, request: jobs_pb2.ReportProgressRequest, context: Context
    ) -> jobs_pb2.ReportProgressResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        await self._jobs.progress(
            caller,
            uuid_of(request.job_id, "job_id"),
            bounded(request.counter, "counter"),
            _counts_of(request.counts),
            opaque(request.sealed_progress, "sealed_progress", _LONGEST_PROGRESS),
        )
        return jobs_pb2.ReportProgressResponse()

    async def AppendLog(self, request: jobs_pb2.AppendLogRequest, context: Context) -> jobs_pb2.AppendLogResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        first = bounded(request.first, "first")
        bounded(len(request.lines), "the number of lines", most=_MOST_LINES)
        lines = [_line_of(first + offset, line) for offset, line in enumerate(request.lines)]
        await self._jobs.append_log(caller, uuid_of(request.job_id, "job_id"), lines)
        return jobs_pb2.AppendLogResponse()

    async def FinishJob(self, request: jobs_pb2.FinishJobRequest, context: Context) -> jobs_pb2.FinishJobResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        report = Finish(
            id=uuid_of(request.job_id, "job_id"),
            status=_final(request.status),
            ended=datetime_of(request.ended, "ended") if request.HasField("ended") else None,
            counts=_counts_of(request.counts),
            snapshot=_snapshot(request.snapshot),
            freed_nothing=request.freed_nothing,
            vaults=_results_of(request.vaults),
            digest=_digest(request),
        )
        await self._jobs.finish(caller, report)
        return jobs_pb2.FinishJobResponse()

    async def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: Context) -> jobs_pb2.ListJobsResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._jobs.page(caller, page_of(request, parts=2), all_devices=request.all_devices)
        return jobs_pb2.ListJobsResponse(jobs=[_to_message(row) for row in rows], next_page_token=token)

    async def ListLog(self, request: jobs_pb2.ListLogRequest, context: Context) -> jobs_pb2.ListLogResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._jobs.log_page(caller, uuid_of(request.job_id, "job_id"), page_of(request))
        return jobs_pb2.ListLogResponse(
            lines=[
                jobs_pb2.LogLine(
                    time=timestamp_of(row.time), severity=jobs_pb2.Severity.ValueType(row.severity), sealed=row.sealed
                )
                for row in rows
            ],
            next_page_token=token,
        )


def _digest(request: Message) -> bytes:
    return sha256(request.SerializeToString(deterministic=True)).digest()


def _kind(number: int) -> int:
    try:
        return JobKind(number).value
    except ValueError:
        raise InvalidArgument(detail=f"job.kind {number} is no kind of job (domain/jobs.py).") from None


def _running(number: int) -> int:
    """The status of a job that starts; none means running."""
    status = _status(number or JobStatus.RUNNING_ACTIVE)
    if not status.is_running:
        raise InvalidArgument(detail=f"job.status {number} is an end: start the job, then finish it.")
    return status.value


def _final(number: int) -> JobStatus:
    status = _status(number)
    if status.is_running:
        raise InvalidArgument(detail=f"status {number} is not an end.")
    return status


def _status(number: int) -> JobStatus:
    try:
        return JobStatus(number)
    except ValueError:
        raise InvalidArgument(detail=f"status {number} is no status of a job (domain/jobs.py).") from None


def _line_of(number: int, line: jobs_pb2.LogLine) -> LogLine:
    if line.severity not in jobs_pb2.Severity.values() or line.severity == jobs_pb2.SEVERITY_UNSPECIFIED:
        raise InvalidArgument(detail="lines: each has a severity.")
    return LogLine(
        number=number,
        time=datetime_of(line.time, "lines.time"),
        severity=line.severity,
        sealed=opaque(line.sealed, "lines.sealed", _LONGEST_LINE),
    )


def _snapshot(text: str) -> str:
    if not _SNAPSHOT.fullmatch(text):
        raise InvalidArgument(detail="snapshot is a snapshot's id, 64 hex digits, or empty.")
    return text


def _results_of(messages: Sequence[jobs_pb2.VaultResult]) -> list[VaultResult]:
    bounded(len(messages), "the number of vaults", most=_MOST_VAULTS)
    results = [
        VaultResult(
            vault_id=uuid_of(message.vault_id, "vaults.vault_id"),
            status=_final(message.status).value,
            snapshot=_snapshot(message.snapshot),
            sealed_error=opaque(message.sealed_error, "vaults.sealed_error", _LONGEST_ERROR),
        )
        for message in messages
    ]
    if len({result.vault_id for result in results}) < len(results):
        raise InvalidArgument(detail="vaults: each is told of once.")
    return results


def _counts_of(message: jobs_pb2.Counts) -> Counts:
    return Counts(
        **{field.name: bounded(getattr(message, field.name), f"counts.{field.name}") for field in fields(Counts)}
    )


def _to_message(listed: Listed) -> jobs_pb2.Job:
    job = listed.job
    return jobs_pb2.Job(
        id=str(job.id),
        device_id=str(job.device_id),
        kind=job.kind,
        status=job.status,
        vault_id=str(job.vault_id) if job.vault_id else "",
        item_id=str(job.item_id) if job.item_id else "",
        started=timestamp_of(job.started),
        ended=optional_timestamp_of(job.ended),
        counts=jobs_pb2.Counts(**asdict(job.counts)),
        snapshot=job.snapshot,
        sealed_progress=job.sealed_progress,
        client_version=job.client_version,
        prune=job.prune,
        vaults=[
            jobs_pb2.VaultResult(
                vault_id=str(result.vault_id),
                status=result.status,
                snapshot=result.snapshot,
                sealed_error=result.sealed_error,
            )
            for result in listed.vaults
        ],
    )
