"""Limits on what streams bodies through a node: how many at once, and how long one may stand still."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.worker import Worker
from services.storage.errors import Stalled, TooBusy

Result = TypeVar("Result")


class Streams:
    """Counts the puts and gets of one node, of all its workers together.

    Each holds a window and a few frames, so their number bounds the memory.
    """

    def __init__(self, limit: int, stall_seconds: float, registry: CollectorRegistry, worker: Worker) -> None:
        self._limit = limit
        self._stall_seconds = stall_seconds
        self._counts = worker.counts
        self._own = worker.number
        gauge = Gauge("oort_storage_streams", "Puts and gets under way", registry=registry)
        gauge.set_function(lambda: sum(self._counts))
        self._bytes = Counter("oort_storage_body_bytes", "Bytes of bodies", ["direction"], registry=registry)

    @contextmanager
    def one(self) -> Iterator[None]:
        """While a stream runs. Raises TooBusy."""
        if sum(self._counts) >= self._limit:
            raise TooBusy(limit=self._limit)
        self._counts[self._own] += 1
        try:
            yield
        finally:
            self._counts[self._own] -= 1

    async def patiently(self, step: Awaitable[Result]) -> Result:
        """Wait for the other end's next step. Raises Stalled."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await step
        except TimeoutError:
            raise Stalled(seconds=self._stall_seconds) from None

    def count_in(self, count: int) -> None:
        self._bytes.labels("in").inc(count)

    def count_out(self, count: int) -> None:
        self._bytes.labels("out").inc(count)
