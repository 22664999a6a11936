from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from oort.auth.v1 import jobs_pb2

from domain.jobs import JobKind, JobStatus
from services.auth.tests.kit import Ground, SignedIn, World, an_id, ids_of, refused
from services.common.messages import timestamp_of


def some_time(world: World, seconds: float = 0) -> Timestamp:
    return timestamp_of(world.clock.now() + timedelta(seconds=seconds))


async def start(world: World, session: SignedIn, **fields: object) -> str:
    values: dict[str, object] = {"id": str(an_id()), "kind": JobKind.BACKUP, "client_version": "1.0", **fields}
    job = jobs_pb2.Job(**values)  # type: ignore[arg-type]
    await world.jobs.StartJob(jobs_pb2.StartJobRequest(job=job), metadata=session.metadata)
    return job.id


async def finish(world: World, session: SignedIn, job_id: str, **fields: object) -> None:
    values: dict[str, object] = {"job_id": job_id, "status": JobStatus.SUCCESS, **fields}
    request = jobs_pb2.FinishJobRequest(**values)  # type: ignore[arg-type]
    await world.jobs.FinishJob(request, metadata=session.metadata)


async def progress(world: World, session: SignedIn, job_id: str, counter: int, files: int) -> None:
    request = jobs_pb2.ReportProgressRequest(
        job_id=job_id, counter=counter, counts=jobs_pb2.Counts(files=files), sealed_progress=b"at %d" % files
    )
    await world.jobs.ReportProgress(request, metadata=session.metadata)


async def append(world: World, session: SignedIn, job_id: str, first: int, *texts: bytes) -> None:
    lines = [jobs_pb2.LogLine(time=some_time(world), severity=jobs_pb2.SEVERITY_INFO, sealed=text) for text in texts]
    request = jobs_pb2.AppendLogRequest(job_id=job_id, first=first, lines=lines)
    await world.jobs.AppendLog(request, metadata=session.metadata)


async def jobs_of(world: World, session: SignedIn, *, all_devices: bool = False) -> list[jobs_pb2.Job]:
    request = jobs_pb2.ListJobsRequest(all_devices=all_devices)
    return list((await world.jobs.ListJobs(request, metadata=session.metadata)).jobs)


async def log_of(world: World, session: SignedIn, job_id: str) -> list[bytes]:
    answer = await world.jobs.ListLog(jobs_pb2.ListLogRequest(job_id=job_id), metadata=session.metadata)
    return [line.sealed for line in answer.lines]


async def test_a_job_goes_from_start_through_progress_to_its_end(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        item = str(an_id())
        job_id = await start(world, session, vault_id=vault.id, item_id=item, started=some_time(world, -5))
        (job,) = await jobs_of(world, session)
        assert (job.id, job.device_id, job.vault_id, job.item_id) == (job_id, session.device, vault.id, item)
        assert (job.status, job.HasField("ended")) == (JobStatus.RUNNING_ACTIVE, False)
        await progress(world, session, job_id, 1, 10)
        (job,) = await jobs_of(world, session)
        assert (job.counts.files, job.sealed_progress) == (10, b"at 10")
        world.clock.jump(60)
        counts = jobs_pb2.Counts(files=12, folders=3, bytes=1 << 40, uploaded_bytes=7, total_files=12, warnings=1)
        await finish(
            world, session, job_id, status=JobStatus.WARNING, ended=some_time(world), counts=counts, snapshot="ab" * 32
        )
        (job,) = await jobs_of(world, session)
        assert (job.status, job.counts, job.snapshot) == (JobStatus.WARNING, counts, "ab" * 32)
        assert job.ended.seconds - job.started.seconds == 65


async def test_a_job_has_a_result_for_each_of_its_vaults(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        results = [
            jobs_pb2.VaultResult(vault_id=vault.id, status=JobStatus.QUOTA_EXCEEDED, sealed_error=b"why"),
            jobs_pb2.VaultResult(vault_id=str(an_id()), status=JobStatus.SUCCESS, snapshot="cd" * 32),
        ]
        job_id = await start(world, session, vault_id=vault.id)
        alone = await start(world, session, started=some_time(world, -1))
        ended = some_time(world)
        for _ in range(2):
            await finish(world, session, job_id, status=JobStatus.WARNING, ended=ended, vaults=results)
        jobs = {job.id: list(job.vaults) for job in await jobs_of(world, session)}
        assert jobs == {job_id: results, alone: []}
        with refused("JOB_FINISHED"):
            await finish(world, session, job_id, status=JobStatus.WARNING, ended=ended, vaults=results[:1])


async def test_what_is_no_result_of_a_vault_is_refused_and_ends_nothing(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = await start(world, session)
        good: dict[str, Any] = {"vault_id": str(an_id()), "status": JobStatus.SUCCESS}
        for bad in (
            [{**good, "vault_id": "x"}],
            [{**good, "status": JobStatus.RUNNING_ACTIVE}],
            [{**good, "status": 1}],
            [{**good, "snapshot": "abc"}],
            [{**good, "sealed_error": bytes((16 << 10) + 1)}],
            [good, good],
            [{**good, "vault_id": str(an_id())} for _ in range(9)],
        ):
            with refused("INVALID_ARGUMENT"):
                await finish(world, session, job_id, vaults=bad)
        assert not (await jobs_of(world, session))[0].HasField("ended")


async def test_jobs_with_long_results_are_listed_in_pages_that_fit_a_message(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        for number in range(30):
            job_id = await start(world, session, started=some_time(world, -number))
            results = [
                jobs_pb2.VaultResult(vault_id=str(an_id()), status=JobStatus.ERROR, sealed_error=bytes(16 << 10))
                for _ in range(8)
            ]
            await finish(world, session, job_id, vaults=results)
        pages: list[int] = []
        token = ""
        while token or not pages:
            request = jobs_pb2.ListJobsRequest(page_size=100, page_token=token)
            answer = await world.jobs.ListJobs(request, metadata=session.metadata)
            pages.append(len(answer.jobs))
            token = answer.next_page_token
        assert sum(pages) == 30
        assert len(pages) > 1


async def test_older_news_of_a_job_is_ignored(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = await start(world, session)
        await progress(world, session, job_id, 5, 50)
        await progress(world, session, job_id, 4, 40)
        await progress(world, session, job_id, 5, 51)
        assert (await jobs_of(world, session))[0].counts.files == 50


async def test_a_repeated_start_and_a_repeated_end_are_the_same_call(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = str(an_id())
        started = some_time(world)
        for _ in range(2):
            await start(world, session, id=job_id, started=started)
        with refused("INVALID_ARGUMENT"):
            await start(world, session, id=job_id, started=started, kind=JobKind.RESTORE)
        ended = some_time(world, 1)
        world.clock.jump(5)
        for _ in range(2):
            await finish(world, session, job_id, ended=ended)
        await start(world, session, id=job_id, started=started)
        with refused("JOB_FINISHED"):
            await finish(world, session, job_id, ended=ended, status=JobStatus.ERROR)
        with refused("JOB_FINISHED"):
            await progress(world, session, job_id, 9, 9)
        (job,) = await jobs_of(world, session)
        assert (job.status, job.ended) == (JobStatus.SUCCESS, ended)


async def test_a_job_reported_late_keeps_its_true_times_and_nonsense_is_bounded(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        late = await start(world, session, started=some_time(world, -86400))
        await finish(world, session, late, ended=some_time(world, -80000))
        future = await start(world, session, started=some_time(world, 86400))
        await finish(world, session, future, ended=some_time(world, -86400))
        ancient = await start(world, session, started=Timestamp(seconds=0))
        jobs = {job.id: job for job in await jobs_of(world, session)}
        assert (jobs[late].started, jobs[late].ended) == (some_time(world, -86400), some_time(world, -80000))
        assert (jobs[future].started, jobs[future].ended) == (some_time(world), some_time(world))
        assert jobs[ancient].started.ToDatetime().year == 2020


async def test_a_log_is_appended_in_order_and_lines_sent_again_are_passed_over(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = await start(world, session)
        await append(world, session, job_id, 0, b"a", b"b")
        await append(world, session, job_id, 0, b"a", b"b")
        await append(world, session, job_id, 1, b"b", b"c")
        with refused("INVALID_ARGUMENT"):
            await append(world, session, job_id, 5, b"f")
        await finish(world, session, job_id)
        await append(world, session, job_id, 3, b"d")
        assert await log_of(world, session, job_id) == [b"a", b"b", b"c", b"d"]


async def test_a_log_is_read_in_pages_that_fit_a_message(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = await start(world, session)
        texts = [b"%04d" % number + bytes(60_000) for number in range(120)]
        for first in range(0, 120, 40):
            await append(world, session, job_id, first, *texts[first : first + 40])
        seen: list[bytes] = []
        token = "first"
        while token:
            request = jobs_pb2.ListLogRequest(job_id=job_id, page_token=token.removeprefix("first"), page_size=1000)
            answer = await world.jobs.ListLog(request, metadata=session.metadata)
            seen += [line.sealed for line in answer.lines]
            token = answer.next_page_token
        assert seen == texts


async def test_jobs_are_listed_newest_first_in_pages_by_device_or_for_all(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        other = await world.signed_in(session.person)
        mine = [await start(world, session, started=some_time(world, -second)) for second in (0, 0, 1, 2, 3)]
        mine[:2] = sorted(mine[:2], reverse=True)
        theirs = await start(world, other, started=some_time(world, -10))
        seen: list[str] = []
        token = "first"
        while token:
            request = jobs_pb2.ListJobsRequest(page_size=2, page_token=token.removeprefix("first"))
            answer = await world.jobs.ListJobs(request, metadata=session.metadata)
            seen += ids_of(answer.jobs)
            token = answer.next_page_token
        assert seen == mine
        assert ids_of(await jobs_of(world, session, all_devices=True)) == [*mine, theirs]
        web = await world.signed_in(session.person, device=False)
        assert len(await jobs_of(world, web)) == 6


async def test_only_the_device_that_runs_a_job_reports_on_it(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        other = await world.signed_in(session.person)
        job_id = await start(world, session)
        with refused("NOT_ALLOWED"):
            await progress(world, other, job_id, 1, 1)
        with refused("NOT_ALLOWED"):
            await append(world, other, job_id, 0, b"a")
        with refused("NOT_ALLOWED"):
            await finish(world, other, job_id)
        web = await world.signed_in(session.person, device=False)
        with refused("NOT_ALLOWED"):
            await start(world, web)


async def test_what_is_no_job_is_refused(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        job_id = await start(world, session)
        for bad in (
            {"kind": 1},
            {"status": 1},
            {"status": JobStatus.SUCCESS},
            {"vault_id": "x"},
            {"client_version": "\n"},
            {"started": Timestamp(seconds=1 << 60)},
        ):
            with refused("INVALID_ARGUMENT"):
                await start(world, session, **bad)
        with refused("NOT_FOUND"):
            await start(world, session, vault_id=str(an_id()))
        for no_end in ({"status": JobStatus.RUNNING_ACTIVE}, {"snapshot": "abc"}, {"counts": {"files": 1 << 63}}):
            with refused("INVALID_ARGUMENT"):
                await finish(world, session, job_id, **no_end)
        with refused("NOT_FOUND"):
            await finish(world, session, str(an_id()))
        with refused("INVALID_ARGUMENT"):
            await append(world, session, job_id, 0, bytes(70_000))
        with refused("INVALID_ARGUMENT"):
            await progress(world, session, job_id, 1 << 63, 1)
