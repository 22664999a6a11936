"""What comes late for a loop that has ended."""

import asyncio

from services.common.testing import loops


def test_what_comes_for_a_loop_that_has_ended_is_not_done_and_disturbs_nobody() -> None:
    async def its_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    done: list[str] = []
    ended = loops.run(its_loop())

    async def another() -> None:
        ended.call_soon_threadsafe(done.append, "late")
        asyncio.get_running_loop().call_soon_threadsafe(done.append, "in time")
        await asyncio.sleep(0)

    loops.run(another())
    assert done == ["in time"]
