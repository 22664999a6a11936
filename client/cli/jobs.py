"""backup-tool jobs"""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit_array, list_lines, printable, say, size_text, table
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option
from domain.jobs import JobKind, JobStatus

if TYPE_CHECKING:
    from oort.auth.v1.jobs_pb2 import Job

    from client.account.device import Device

AllDevices = Annotated[bool, Option("--all-devices", help="Also those of the account's other devices.")]
Most = Annotated[int, Option("--limit", help="How many, newest first.", min=1)]
Log = Annotated[str, Option("--log", help="Show the log of the job with this id.", metavar="JOB")]


_WORDS: dict[int, str] = {
    JobStatus.SUCCESS: "Success",
    JobStatus.RUNNING_ACTIVE: "Running",
    JobStatus.RUNNING_REVIVED: "Running",
    JobStatus.RUNNING_TRYAGAIN: "Running",
    JobStatus.NOT_YET_STARTED: "Running",
    JobStatus.TIMEOUT: "Error",
    JobStatus.WARNING: "Warning",
    JobStatus.ERROR: "Error",
    JobStatus.QUOTA_EXCEEDED: "Quota Exceeded",
    JobStatus.MISSED: "Missed",
    JobStatus.CANCELLED: "Cancelled",
    JobStatus.SKIPPED_ALREADY_RUNNING: "Skipped",
    JobStatus.ABANDONED: "Abandoned",
}


def jobs(
    context: click.Context, all_devices: AllDevices = False, limit: Most = 100, log: Log = "", as_json: Json = False
) -> None:
    """List jobs and how they ended, or show the log of one."""
    from client.account.jobs import list_jobs, report_kept

    with Invocation.of(context).device() as device:
        report_kept(device)
        if log:
            _show_log(device, log, as_json=as_json)
            return
        found = list_jobs(device, all_devices=all_devices, most=limit)
        names = _vault_names(device)
        described = [_describe(device, job, names) for job in found]
    if as_json:
        emit_array(described)
    elif not described:
        say("There was no job yet.")
    else:
        table(
            ("JOB", "STARTED", "KIND", "STATUS", "VAULT", "FILES", "UPLOADED", "WARNINGS"),
            (
                (
                    job["id"],
                    job["started"][:19],
                    job["kind_name"],
                    _WORDS.get(job["status"], job["status_name"]),
                    ", ".join(one["vault"] or "-" for one in job["vaults"] or [job]),
                    str(job["counts"]["files"]),
                    size_text(job["counts"]["uploaded_bytes"]),
                    str(job["counts"]["warnings"]),
                )
                for job in described
            ),
        )


def _show_log(device: "Device", job_id: str, *, as_json: bool) -> None:
    from oort.auth.v1.jobs_pb2 import Severity

    from client.account.jobs import read_log

    lines = (
        {
            "time": line.time.ToJsonString(),
            "severity": Severity.Name(line.severity).removeprefix("SEVERITY_").lower(),
            "text": text,
        }
        for line, text in read_log(device, job_id)
    )
    if as_json:
        emit_array(lines)
    else:
        list_lines(f"{line['time'][:19]}  {line['severity']:8} {printable(line['text'])}" for line in lines)


def _vault_names(device: "Device") -> dict[str, str]:
    from client.account.vaults import Vaults

    return {vault.id: vault.name for vault in Vaults(device).all()}


def _status_name(status: int) -> str:
    with suppress(ValueError):  # numbers of a later version are shown as they are
        return JobStatus(status).name.lower()
    return str(status)


def _describe(device: "Device", job: "Job", names: dict[str, str]) -> dict[str, Any]:
    from client.account.jobs import error_of

    kind = str(job.kind)
    with suppress(ValueError):
        kind = JobKind(job.kind).name.lower()
    counts = job.counts
    return {
        "id": job.id,
        "device": job.device_id,
        "kind": job.kind,
        "kind_name": kind,
        "status": job.status,
        "status_name": _status_name(job.status),
        "vault": names.get(job.vault_id),
        "vault_id": job.vault_id or None,
        "item": job.item_id or None,
        "started": job.started.ToJsonString(),
        "ended": job.ended.ToJsonString() if job.HasField("ended") else None,
        "snapshot": job.snapshot or None,
        "vaults": [
            {
                "vault": names.get(result.vault_id),
                "vault_id": result.vault_id,
                "status": result.status,
                "status_name": _status_name(result.status),
                "snapshot": result.snapshot or None,
                "error": error_of(device, job.id, result),
            }
            for result in job.vaults
        ],
        "counts": {
            "files": counts.files,
            "folders": counts.folders,
            "bytes": counts.bytes,
            "uploaded_bytes": counts.uploaded_bytes,
            "downloaded_bytes": counts.downloaded_bytes,
            "total_files": counts.total_files,
            "total_bytes": counts.total_bytes,
            "warnings": counts.warnings,
        },
    }
