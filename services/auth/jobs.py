"""Jobs of devices: started, reported while they run, ended once; their logs sealed by the client.

Kept true: a repeated report changes nothing, whatever came between; an end is never replaced by another; times are
the device's own, between what is possible: not in the future, not before the product, the end not before the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from domain.jobs import JobStatus
from services.auth.errors import IdTaken, JobFinished
from services.auth.gate import Caller
from services.auth.pages import cut
from services.auth.store import jobs, vaults
from services.auth.store.jobs import Counts, Job, LogLine, VaultResult
from services.common.clock import Clock
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.common.messages import uuid_of
from services.common.paging import Page

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
# A log is for people: what no one can read is cut by the client, and never grows without end here.
MOST_LINES = 1_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """A job as its device reports it; `digest` is the SHA-256 of the report."""

    id: UUID
    kind: int
    status: int
    vault: UUID | None
    item: UUID | None
    started: datetime | None
    client_version: str
    prune: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a job as its device reports it; `digest` is the SHA-256 of the report."""

    id: UUID
    status: JobStatus
    ended: datetime | None
    counts: Counts
    snapshot: str
    freed_nothing: bool
    vaults: Sequence[VaultResult]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A job, and what became of its vaults."""

    job: Job
    vaults: Sequence[VaultResult]

    @property
    def opaque_bytes(self) -> int:
        return len(self.job.sealed_progress) + sum(len(result.sealed_error) for result in self.vaults)


@dataclass(frozen=True, slots=True)
class Jobs:
    db: Database
    clock: Clock

    async def start(self, caller: Caller, report: Start) -> None:
        """Raises IdTaken when the id was started with other content, NotFound for a vault that is not the user's."""
        now = self.clock.now()
        job = Job(
            id=report.id,
            tenant_id=caller.tenant,
            user_id=caller.user,
            device_id=caller.own_device,
            kind=report.kind,
            status=report.status,
            vault_id=report.vault,
            item_id=report.item,
            started=min(max(report.started or now, EARLIEST), now),
            client_version=report.client_version,
            prune=report.prune,
            started_by=report.digest,
        )
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if report.vault and await vaults.get(unit, report.vault) is None:
                raise NotFound(what="such vault")
            if not await jobs.insert(unit, job):
                known = await jobs.get(unit, job.id)
                if known is None or (known.started_by, known.device_id) != (job.started_by, job.device_id):
                    raise IdTaken(what="job", id=job.id)

    async def progress(self, caller: Caller, job: UUID, counter: int, counts: Counts, sealed: bytes) -> None:
        """Note how far a job is, unless later news of it came first. Raises JobFinished, NotFound, NotAllowed."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await _own(unit, caller, job)
            if known.ended:
                raise JobFinished
            if counter > known.progress_counter:
                await jobs.progress(unit, job, counter, counts, sealed)

    async def append_log(self, caller: Caller, job: UUID, lines: list[LogLine]) -> None:
        """Add lines; those that are there already are passed over. Raises InvalidArgument for a gap, NotFound."""
        now = self.clock.now()
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await _own(unit, caller, job)
            fresh = [
                LogLine(line.number, min(max(line.time, EARLIEST), now), line.severity, line.sealed)
                for line in lines
                if line.number >= known.log_lines
            ]
            if not fresh:
                return
            if fresh[0].number != known.log_lines:
                raise InvalidArgument(detail=f"first: the next line of this log is {known.log_lines}.")
            if fresh[-1].number >= MOST_LINES:
                raise InvalidArgument(detail=f"lines: a log has at most {MOST_LINES} lines.")
            await jobs.append_log(unit, known, fresh)

    async def finish(self, caller: Caller, report: Finish) -> None:
        """End a job; the same end again is the same call. Raises JobFinished for another end, NotFound, NotAllowed."""
        now = self.clock.now()
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await _own(unit, caller, report.id)
            if known.ended:
                if known.ended_by != report.digest:
                    raise JobFinished
                return
            ended = min(max(report.ended or now, known.started), max(now, known.started))
            await jobs.finish(
                unit,
                known.id,
                status=report.status,
                ended=ended,
                counts=report.counts,
                snapshot=report.snapshot,
                prune=known.prune and not report.freed_nothing,
                ended_by=report.digest,
            )
            await jobs.insert_results(unit, known, report.vaults)

    async def page(self, caller: Caller, page: Page, *, all_devices: bool) -> tuple[list[Listed], str]:
        """Newest first: of the caller's device, or of all the user's; a session without a device sees all."""
        before = (_moment(page.after[0]), uuid_of(page.after[1], "page_token")) if page.after else None
        async with self.db.unit(caller.tenant, caller.user) as unit:
            found = await jobs.page(unit, caller.user, None if all_devices else caller.device, before, page.limit)
            results = await jobs.results(unit, [job.id for job in found])
        rows = [Listed(job, results.get(job.id, ())) for job in found]
        return cut(page, rows, lambda row: [row.job.started.isoformat(), str(row.job.id)], lambda row: row.opaque_bytes)

    async def log_page(self, caller: Caller, job: UUID, page: Page) -> tuple[list[LogLine], str]:
        """The lines of a job of any of the user's devices. Raises NotFound."""
        first = _number(page.after[0]) + 1 if page.after else 0
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if await jobs.get(unit, job) is None:
                raise NotFound(what="such job")
            rows = await jobs.log_page(unit, job, first, page.limit)
        return cut(page, rows, lambda row: [str(row.number)], lambda row: len(row.sealed))


async def _own(unit: Unit, caller: Caller, job: UUID) -> Job:
    """A job of the caller's device, locked until the unit ends."""
    known = await jobs.get(unit, job, lock=True)
    if known is None:
        raise NotFound(what="such job")
    if known.device_id != caller.own_device:
        raise NotAllowed(detail="The job belongs to another device.")
    return known


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(detail="page_token is not one that this list gave.") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_LINES))):
        raise InvalidArgument(detail="page_token is not one that this list gave.")
    return int(text)
