"""Jobs that are cancelled."""

import asyncio

import pytest

from services.common import jobs


async def test_a_job_that_lost_its_cancellation_is_cancelled_again() -> None:
    cancelled = 0

    async def loses_the_first() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
        raise asyncio.CancelledError

    job = asyncio.create_task(loses_the_first())
    await asyncio.sleep(0)
    await jobs.cancel([job], again=0.01)
    assert cancelled == 2
    assert job.cancelled()


async def test_jobs_that_have_ended_or_failed_are_no_obstacle() -> None:
    async def fails() -> None:
        raise ValueError("a failed job")

    async def ends() -> None:
        pass

    running = [asyncio.create_task(fails()), asyncio.create_task(ends())]
    await asyncio.wait(running)
    await jobs.cancel(running)
    await jobs.cancel([])
    with pytest.raises(ValueError, match="a failed job"):
        running[0].result()
