"""What ends a role's process, run inside the test's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.errors import StartError
from services.common.process import Parts, Role, Runtime, Started, run
from services.common.provision import DatabaseUrls
from services.common.settings import ProcessSettings
from services.common.testing.server import Certificates, some_settings

MakeDatabase = Callable[[], DatabaseUrls]


class Example:
    """A role with jobs and no service of its own; it writes down what happens to it."""

    def __init__(self, *jobs: Callable[["Example"], Awaitable[None]]) -> None:
        self.jobs = jobs
        self.events: list[str] = []
        self.stop = asyncio.Event()
        self.draining = asyncio.Event()

    @asynccontextmanager
    async def wire(self, runtime: Runtime[ProcessSettings]) -> AsyncIterator[Parts]:
        self.draining = runtime.draining
        try:
            yield Parts(background=[lambda job=job: job(self) for job in self.jobs])  # type: ignore[misc] # bound at once
        finally:
            self.events.append("closed")

    async def run(self, settings: ProcessSettings, migrations: Path) -> None:
        role = Role("example", ProcessSettings, migrations, self.wire)
        await run(role, settings, SystemClock(), self.stop, self._started)

    def _started(self, started: Started) -> None:
        assert started.public.port != started.internal.port
        self.events.append("started")


async def for_ever(example: Example) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        example.events.append("draining" if example.draining.is_set() else "cut off")


async def stop_it(example: Example) -> None:
    example.stop.set()


async def fail(example: Example) -> None:
    del example
    raise ZeroDivisionError


async def end_with_7(example: Example) -> None:
    del example
    raise StartError("over", 7)


@pytest.fixture
def settings(an_empty_database: MakeDatabase, installation: Certificates) -> ProcessSettings:
    return some_settings(ProcessSettings, "example", installation, an_empty_database())


async def test_a_role_that_is_stopped_drains_cancels_its_jobs_and_closes_what_it_opened(
    settings: ProcessSettings, tmp_path: Path
) -> None:
    example = Example(for_ever, stop_it)
    await example.run(settings, tmp_path)
    assert example.events == ["started", "draining", "closed"]


async def test_a_job_that_fails_ends_the_process_with_what_it_raised(settings: ProcessSettings, tmp_path: Path) -> None:
    example = Example(for_ever, fail)
    with pytest.raises(ZeroDivisionError):
        await example.run(settings, tmp_path)
    assert example.events == ["started", "draining", "closed"]


async def test_a_job_can_choose_the_exit_code(settings: ProcessSettings, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="over") as ended:
        await Example(end_with_7).run(settings, tmp_path)
    assert ended.value.exit_code == 7


async def test_a_job_that_is_done_ends_nothing(settings: ProcessSettings, tmp_path: Path) -> None:
    done = asyncio.Event()

    async def note(_: Example) -> None:
        done.set()

    async def look_later(example: Example) -> None:
        await done.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        example.events.append("draining" if example.draining.is_set() else "serving")
        example.stop.set()

    example = Example(note, look_later)
    await example.run(settings, tmp_path)
    assert example.events == ["started", "serving", "closed"]
