"""Work in the background that ends when it is told to.

Kept true: a cancellation that is lost comes again. Before Python 3.12 `asyncio.wait_for` answers, and does not end,
when it is cancelled in the moment in which what it waits for is done (python/cpython#86296), and the database's pool
waits so for its connections.
"""

import asyncio
from collections.abc import Collection
from typing import Any

_AGAIN_SECONDS = 2.0


async def cancel(jobs: Collection[asyncio.Future[Any]], again: float = _AGAIN_SECONDS) -> None:
    """Cancel all, and every `again` seconds those that go on, until all have ended. Raises none of their errors."""
    going_on = set(jobs)
    while going_on:
        for job in going_on:
            job.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=again)
    await asyncio.gather(*jobs, return_exceptions=True)
