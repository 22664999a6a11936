"""A clock that jumps: whoever sleeps is awake at once, and it is later."""

import asyncio

from clouds.calls import Clock


def a_jumping_clock() -> Clock:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    return Clock(lambda: now, sleep)
