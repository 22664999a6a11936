"""Who is at work on a bucket's files here, so that they are all removed only when nobody is.

Kept true: while somebody has a bucket `alone`, nobody who looks at a file and then says in the catalogue that it is
there is between the two; who came first is waited for. Whoever shares a bucket may ask for the same again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID


class BucketsInUse:
    """Of one node, in one event loop."""

    def __init__(self) -> None:
        self._sharing: Counter[UUID] = Counter()
        self._alone: set[UUID] = set()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def shared(self, bucket: UUID) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: bucket not in self._alone)
            self._sharing[bucket] += 1
        try:
            yield
        finally:
            self._sharing[bucket] -= 1
            if not self._sharing[bucket]:
                del self._sharing[bucket]
                await asyncio.shield(self._tell())

    @asynccontextmanager
    async def alone(self, bucket: UUID) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: bucket not in self._sharing and bucket not in self._alone)
            self._alone.add(bucket)
        try:
            yield
        finally:
            self._alone.remove(bucket)
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
