"""Who is at work on a bucket's files here, so that they are all removed only when nobody is.

Kept true: while somebody has a bucket `alone`, nobody who looks at a file and then says in the catalogue that it is
there is between the two; who came first is waited for. Whoever shares a bucket may ask for the same again. All workers
of the node count; who waits in one of them to share a bucket comes before whoever asks in another to have it alone, or
he might find it free at none of his looks while files of it are moved one after the other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from uuid import UUID

import structlog

from services.common.worker import ByteLocks

_LOOK_SECONDS = 0.05  # between looks at what other workers have, who tell nobody that they are done
_LONG_SECONDS = 60.0  # of waiting for a bucket alone, before it is said
PATIENCE_SECONDS = 10.0  # of who has other buckets to go on with, and comes again for this one


def _wish_of(bucket: UUID) -> int:
    """The lock of those that wait for a bucket, which is no bucket's own."""
    return ~bucket.int


class InUse(Exception):
    """Others are at work on a bucket's files for long."""


class BucketsInUse:
    """Of one node, in one event loop; with `locks` also of the node's other workers."""

    def __init__(self, locks: ByteLocks | None = None) -> None:
        self._locks = locks
        self._sharing: Counter[UUID] = Counter()
        self._alone: set[UUID] = set()
        self._wishes: Counter[UUID] = Counter()
        self._changed = asyncio.Condition()
        self._said: set[UUID] = set()
        self._log = structlog.get_logger("storage")

    @asynccontextmanager
    async def shared(self, bucket: UUID) -> AsyncIterator[None]:
        if not self._share(bucket):
            with self._wish(bucket):
                await self._until(lambda: self._share(bucket) or self._wish_again(bucket))
        try:
            yield
        finally:
            self._sharing[bucket] -= 1
            if not self._sharing[bucket]:
                del self._sharing[bucket]
                self._let_go(bucket)
                await asyncio.shield(self._tell())

    @asynccontextmanager
    async def alone(self, bucket: UUID, seconds: float | None = None) -> AsyncIterator[None]:
        """Waits for who is at it, for ever or for so many seconds. Raises InUse when these are over."""
        try:
            with self._said_when_long(bucket):
                async with asyncio.timeout(seconds):
                    await self._until(lambda: self._take(bucket))
        except TimeoutError:
            self._say(bucket)
            raise InUse from None
        self._said.discard(bucket)
        try:
            yield
        finally:
            self._alone.remove(bucket)
            self._let_go(bucket)
            await asyncio.shield(self._tell())

    def _share(self, bucket: UUID) -> bool:
        if bucket in self._alone or not (bucket in self._sharing or self._locked(bucket, alone=False)):
            return False
        self._sharing[bucket] += 1
        return True

    def _take(self, bucket: UUID) -> bool:
        if bucket in self._sharing or bucket in self._alone or self._is_wished(bucket):
            return False
        if not self._locked(bucket, alone=True):
            return False
        self._alone.add(bucket)
        return True

    def _locked(self, bucket: UUID, *, alone: bool) -> bool:
        """Whether no other worker is against it."""
        return self._locks is None or self._locks.take(bucket.int, alone=alone)

    def _let_go(self, bucket: UUID) -> None:
        if self._locks is not None:
            self._locks.let_go(bucket.int)

    @contextmanager
    def _wish(self, bucket: UUID) -> Iterator[None]:
        """While somebody waits to share a bucket. Of those of one worker the last one lets go of the wish."""
        if self._locks is None:
            yield
            return
        self._wish_again(bucket)
        self._wishes[bucket] += 1
        try:
            yield
        finally:
            self._wishes[bucket] -= 1
            if not self._wishes[bucket]:
                del self._wishes[bucket]
                self._locks.let_go(_wish_of(bucket))

    def _wish_again(self, bucket: UUID) -> bool:
        """Whoever looked for wishes just when one was made had its lock, and the wish was lost. Answers False."""
        if self._locks is not None:
            self._locks.take(_wish_of(bucket), alone=False)
        return False

    def _is_wished(self, bucket: UUID) -> bool:
        """By another worker. Those that wait in this one are told when it is free."""
        if self._locks is None or bucket in self._wishes:
            return False
        is_free = self._locks.take(_wish_of(bucket), alone=True)
        if is_free:
            self._locks.let_go(_wish_of(bucket))
        return not is_free

    @contextmanager
    def _said_when_long(self, bucket: UUID) -> Iterator[None]:
        """While somebody waits for a bucket alone."""
        saying = asyncio.get_running_loop().call_later(_LONG_SECONDS, partial(self._say, bucket))
        try:
            yield
        finally:
            saying.cancel()

    def _say(self, bucket: UUID) -> None:
        """Once, until somebody has had it alone."""
        if bucket not in self._said:
            self._said.add(bucket)
            self._log.warning(
                "a bucket is in use for long, and what waits for it goes on when it is not", bucket=str(bucket)
            )

    async def _until(self, can: Callable[[], bool]) -> None:
        async with self._changed:
            while not can():
                await self._change()

    async def _change(self) -> None:
        if self._locks is None:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
