from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Counts:
    """What servers may know of a job's work; each below 2^63."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    warnings: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    id: UUID
    tenant_id: UUID
    user_id: UUID
    device_id: UUID
    kind: int
    status: int
    vault_id: UUID | None
    item_id: UUID | None
    started: datetime
    client_version: str
    started_by: bytes  # SHA-256 of the call that started it
    ended: datetime | None = None
    ended_by: bytes | None = None
    snapshot: str = ""
    sealed_progress: bytes = b""
    progress_counter: int = 0
    log_lines: int = 0
    files: int = 0
    folders: int = 0
    bytes: int = 0
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    warnings: int = 0
    prune: bool = False  # of a retention: it also frees what no snapshot needs; once it has ended, something went

    @property
    def counts(self) -> Counts:
        return Counts(*(getattr(self, field.name) for field in fields(Counts)))


@dataclass(frozen=True, slots=True)
class VaultResult:
    """What became of one vault of a job."""

    vault_id: UUID
    status: int
    snapshot: str  # its id, or empty
    sealed_error: bytes


@dataclass(frozen=True, slots=True)
class LogLine:
    number: int
    time: datetime
    severity: int
    sealed: bytes


_COLUMNS = ", ".join(field.name for field in fields(Job))
_PLACES = ", ".join("%s" for _ in fields(Job))
_COUNTS = ", ".join(f"{field.name} = %s" for field in fields(Counts))


async def insert(unit: Unit, job: Job) -> bool:
    """False when the id is taken, by whomever."""
    cursor = await unit.execute(
        f"insert into jobs ({_COLUMNS}) values ({_PLACES}) on conflict do nothing",  # noqa: S608 - constants
        astuple(job),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, job: UUID, *, lock: bool = False) -> Job | None:
    """A job by its id; with `lock`, no other report changes it before this unit ends."""
    async with unit.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from jobs where id = %s{' for update' if lock else ''}",  # noqa: S608 - constants
            (job,),
        )
        return await cursor.fetchone()


async def progress(unit: Unit, job: UUID, counter: int, counts: Counts, sealed: bytes) -> None:
    await unit.execute(
        f"update jobs set progress_counter = %s, sealed_progress = %s, {_COUNTS} where id = %s",  # noqa: S608 - constants
        (counter, sealed, *astuple(counts), job),
    )


async def finish(
    unit: Unit, job: UUID, *, status: int, ended: datetime, counts: Counts, snapshot: str, prune: bool, ended_by: bytes
) -> None:
    await unit.execute(
        f"update jobs set status = %s, ended = %s, snapshot = %s, prune = %s, ended_by = %s, {_COUNTS} where id = %s",  # noqa: S608
        (status, ended, snapshot, prune, ended_by, *astuple(counts), job),
    )


async def insert_results(unit: Unit, job: Job, results: Sequence[VaultResult]) -> None:
    """Add what became of a job's vaults, in order, once."""
    async with unit.cursor() as cursor:
        await cursor.executemany(
            "insert into job_vaults (job_id, number, tenant_id, user_id, vault_id, status, snapshot, sealed_error)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [(job.id, number, job.tenant_id, job.user_id, *astuple(result)) for number, result in enumerate(results)],
        )


async def results(unit: Unit, some: Sequence[UUID]) -> dict[UUID, list[VaultResult]]:
    """What became of the vaults of some jobs, in order; nothing of those that have told nothing."""
    found: dict[UUID, list[VaultResult]] = {}
    cursor = await unit.execute(
        "select job_id, vault_id, status, snapshot, sealed_error from job_vaults where job_id = any(%s)"
        " order by job_id, number",
        (list(some),),
    )
    async for job, *result in cursor:
        found.setdefault(job, []).append(VaultResult(*result))
    return found


async def page(
    unit: Unit, user: UUID, device: UUID | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Job]:
    """The jobs started before one, newest first; of one device, or of all."""
    started, job = before or (None, None)
    async with unit.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from jobs where user_id = %(user)s"  # noqa: S608 - constants
            " and (%(device)s::uuid is null or device_id = %(device)s)"
            " and (%(started)s::timestamptz is null or (started, id) < (%(started)s, %(job)s::uuid))"
            " order by started desc, id desc limit %(limit)s",
            {"user": user, "device": device, "started": started, "job": job, "limit": limit},
        )
        return await cursor.fetchall()


async def append_log(unit: Unit, job: Job, lines: list[LogLine]) -> None:
    """Add lines that follow those there are; the job's row is locked."""
    async with unit.cursor() as cursor:
        await cursor.executemany(
            "insert into job_log (job_id, number, tenant_id, user_id, time, severity, sealed)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (job.id, line.number, job.tenant_id, job.user_id, line.time, line.severity, line.sealed)
                for line in lines
            ],
        )
    await unit.execute("update jobs set log_lines = %s where id = %s", (lines[-1].number + 1, job.id))


async def log_page(unit: Unit, job: UUID, first: int, limit: int) -> list[LogLine]:
    async with unit.cursor(row_factory=class_row(LogLine)) as cursor:
        await cursor.execute(
            "select number, time, severity, sealed from job_log where job_id = %s and number >= %s"
            " order by number limit %s",
            (job, first, limit),
        )
        return await cursor.fetchall()
