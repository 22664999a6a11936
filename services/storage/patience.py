"""How long a body that has come waits for its entry in the catalogue, while others change its bucket or its quota.

Kept true: a body is not thrown away for a bucket that is locked for a moment, nor while connections are scarce; whoever
waits is told within the time in which a client, or a home that holds a copy, still listens; a node that is to end waits
for nobody; entries of one tenant, which may all wait for one lock, leave half of the connections to the others.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

from services.common.clock import Clock
from services.common.errors import Busy

Result = TypeVar("Result")

# The last try begins by then. It waits for a connection (10 s, services/common/database.py) and for the lock
# (5 s, standing.py): the whole takes 40 s at most.
_LAST_TRY_SECONDS = 25.0
_PAUSE_SECONDS = 1.0


class Patience:
    """Tries entries again until they are made, refused, or the time is over."""

    def __init__(self, clock: Clock, draining: asyncio.Event, connections: int) -> None:
        """`draining` is set when the process begins to end, which has so many connections to the database."""
        self._clock = clock
        self._draining = draining
        self._turns = _Turns(max(1, connections // 2))

    async def enter(self, tenant: UUID, entry: Callable[[], Awaitable[Result]]) -> Result:
        """Each try is a transaction of its own; between them other calls get its connection. Raises what `entry` does.

        Busy, in which case nothing was entered, after about 40 seconds, or while the process ends at once.
        """
        last = self._clock.monotonic() + _LAST_TRY_SECONDS
        while True:
            try:
                async with self._turns.of(tenant, last - self._clock.monotonic()):
                    return await entry()
            except Busy:
                if self._draining.is_set() or self._clock.monotonic() + _PAUSE_SECONDS > last:
                    raise
            await self._clock.sleep(_PAUSE_SECONDS)


class _Turns:
    """At most `at_once` of each tenant go on; the others wait in their order."""

    def __init__(self, at_once: int) -> None:
        self._free = defaultdict[UUID, asyncio.Semaphore](lambda: asyncio.Semaphore(at_once))
        self._asking: dict[UUID, int] = {}

    @asynccontextmanager
    async def of(self, tenant: UUID, seconds: float) -> AsyncIterator[None]:
        """Raises Busy when the turn does not come in so many seconds."""
        self._asking[tenant] = self._asking.get(tenant, 0) + 1
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._free[tenant].acquire()
            except TimeoutError:
                raise Busy(what="The database") from None
            try:
                yield
            finally:
                self._free[tenant].release()
        finally:
            self._asking[tenant] -= 1
            if not self._asking[tenant]:
                del self._asking[tenant], self._free[tenant]
