"""How long a body that has come waits for its entry in the catalogue, while others change its bucket or its quota.

Kept true: a body is not thrown away for a bucket that is locked for a moment, nor for connections that are scarce for
one; once the process begins to end nobody waits for a pause or a turn, and nobody tries a second time; entries of one
tenant, which may all wait for the lock of its quota, leave half of the connections to the others, and those of one
bucket, which wait for its lock, all but two of these to the tenant's other buckets. Each wait in their order.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from services.common.clock import Clock
from services.common.errors import Busy
from services.storage.errors import BucketBusy

Result = TypeVar("Result")

# The last try begins by then. It waits for a connection (10 s, services/common/database.py) and for the bucket's lock
# (5 s, standing.py), which makes 40 s; then, where its quota is shared, as long for each lock of that: a minute.
_LAST_TRY_SECONDS = 25.0
_PAUSE_SECONDS = 1.0
_OF_A_BUCKET = 2  # one has its lock, and the next is there when it lets go


class Patience:
    """Tries entries again until they are made, refused, or the time is over."""

    def __init__(self, clock: Clock, draining: asyncio.Event, connections: int) -> None:
        """`draining` is set when the process begins to end, which has so many connections to the database."""
        self._clock = clock
        self._draining = draining
        self._of_tenants = _Turns(max(1, connections // 2), draining, lambda: Busy(what="The database"))
        self._of_buckets = _Turns(_OF_A_BUCKET, draining, BucketBusy)

    async def enter(self, tenant: UUID, entry: Callable[[], Awaitable[Result]], bucket: UUID | None = None) -> Result:
        """Each try is a transaction of its own; between them other calls get its connection. Raises what `entry` does.

        `bucket` is the one whose lock it takes, where others may wait for that too.
        Busy, in which case nothing was entered, after about 40 seconds, or a minute where a shared quota is locked too;
        when the process ends after one try.
        """
        last = self._clock.monotonic() + _LAST_TRY_SECONDS
        refused: Busy | None = None
        while True:
            try:
                async with self._turn(tenant, bucket, last):
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

    @asynccontextmanager
    async def _turn(self, tenant: UUID, bucket: UUID | None, last: float) -> AsyncIterator[None]:
        async with AsyncExitStack() as turns:
            if bucket is not None:
                await turns.enter_async_context(self._of_buckets.of(bucket, last - self._clock.monotonic()))
            await turns.enter_async_context(self._of_tenants.of(tenant, last - self._clock.monotonic()))
            yield


class _Turns:
    """At most `at_once` of each owner go on; the others wait in their order, until the process begins to end.

    Who waits in vain raises what `busy` makes.
    """

    def __init__(self, at_once: int, draining: asyncio.Event, busy: Callable[[], Busy]) -> None:
        self._free = defaultdict[UUID, asyncio.Semaphore](lambda: asyncio.Semaphore(at_once))
        self._asking: dict[UUID, int] = {}
        self._draining = draining
        self._busy = busy

    @asynccontextmanager
    async def of(self, owner: UUID, seconds: float) -> AsyncIterator[None]:
        """Raises Busy when the turn does not come in so many seconds."""
        self._asking[owner] = self._asking.get(owner, 0) + 1
        try:
            free = self._free[owner]
            turn = asyncio.ensure_future(free.acquire())
            try:
                await _first(turn, self._draining, seconds)
                if not turn.done() and not self._draining.is_set():
                    raise self._busy()
                yield
            finally:
                if not turn.cancel() and not turn.cancelled():
                    free.release()
        finally:
            self._asking[owner] -= 1
            if not self._asking[owner]:
                del self._asking[owner], self._free[owner]


async def _first(awaited: "asyncio.Future[Any]", draining: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until that is done, the process begins to end, or the time is over."""
    ending = asyncio.ensure_future(draining.wait())
    try:
        await asyncio.wait({awaited, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
