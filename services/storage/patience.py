"""How long a body that has come waits for its entry in the catalogue, while others change its bucket or its quota.

Kept true: a body is not thrown away for a bucket that is locked for a moment, nor for connections that are scarce for
one; once the process begins to end nobody waits for a pause or a turn, and nobody tries a second time; entries of one
tenant, which may all wait for one lock, leave half of the connections to the others. Among themselves they wait in
their order, also for a bucket of their tenant that stays locked.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from services.common.clock import Clock
from services.common.errors import Busy

Result = TypeVar("Result")

# The last try begins by then. It waits for a connection (10 s, services/common/database.py) and for the bucket's lock
# (5 s, standing.py), which makes 40 s; then, where its quota is shared, as long for each lock of that: a minute.
_LAST_TRY_SECONDS = 25.0
_PAUSE_SECONDS = 1.0


class Patience:
    """Tries entries again until they are made, refused, or the time is over."""

    def __init__(self, clock: Clock, draining: asyncio.Event, connections: int) -> None:
        """`draining` is set when the process begins to end, which has so many connections to the database."""
        self._clock = clock
        self._draining = draining
        self._turns = _Turns(max(1, connections // 2), draining)

    async def enter(self, tenant: UUID, entry: Callable[[], Awaitable[Result]]) -> Result:
        """Each try is a transaction of its own; between them other calls get its connection. Raises what `entry` does.

        Busy, in which case nothing was entered, after about 40 seconds, or a minute where a shared quota is locked too;
        when the process ends after one try.
        """
        last = self._clock.monotonic() + _LAST_TRY_SECONDS
        refused: Busy | None = None
        while True:
            try:
                async with self._turns.of(tenant, last - self._clock.monotonic()):
                    if refused is not None and self._draining.is_set():
                        raise refused
                    return await entry()
            except Busy as error:
                if self._draining.is_set() or self._clock.monotonic() + _PAUSE_SECONDS > last:
                    raise
                refused = error
            pause = asyncio.ensure_future(self._clock.sleep(_PAUSE_SECONDS))
            try:
                await _first(pause, self._draining)
            finally:
                pause.cancel()


class _Turns:
    """At most `at_once` of each tenant go on; the others wait in their order, until the process begins to end."""

    def __init__(self, at_once: int, draining: asyncio.Event) -> None:
        self._free = defaultdict[UUID, asyncio.Semaphore](lambda: asyncio.Semaphore(at_once))
        self._asking: dict[UUID, int] = {}
        self._draining = draining

    @asynccontextmanager
    async def of(self, tenant: UUID, seconds: float) -> AsyncIterator[None]:
        """Raises Busy when the turn does not come in so many seconds."""
        self._asking[tenant] = self._asking.get(tenant, 0) + 1
        try:
            free = self._free[tenant]
            turn = asyncio.ensure_future(free.acquire())
            try:
                await _first(turn, self._draining, seconds)
                if not turn.done() and not self._draining.is_set():
                    raise Busy(what="The database")
                yield
            finally:
                if not turn.cancel() and not turn.cancelled():
                    free.release()
        finally:
            self._asking[tenant] -= 1
            if not self._asking[tenant]:
                del self._asking[tenant], self._free[tenant]


async def _first(awaited: "asyncio.Future[Any]", draining: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until that is done, the process begins to end, or the time is over."""
    ending = asyncio.ensure_future(draining.wait())
    try:
        await asyncio.wait({awaited, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
