"""Threads in which everything that blocks runs.

Kept true: nobody who asks for what lies on a disk waits behind a store, nor at one store for another, nor behind bodies
that are being sent there for a small answer of it. So a store that stands still takes along what lies in it, and not
the disks of the node. The heartbeat waits for no more of one than whether it is there.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from services.storage.volumes.volume import OpenObject, Volume

Result = TypeVar("Result")
Opened = TypeVar("Opened", bound=OpenObject)


class DiskThreads:
    """Those of a node's disks, of any bucket."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, step: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, step)

    async def open(self, step: Callable[[], Opened | None]) -> Opened | None:
        """Run what opens something, which is closed when nobody is there any more to close it."""
        opening = asyncio.ensure_future(self.run(step))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The caller went away while the thread opened the file.
            opening.add_done_callback(_close)
            raise

    def of(self, bucket: UUID, *, sends: bool = False) -> "DiskThreads":  # noqa: ARG002 - a disk has one kind
        """Those in which to work on a bucket; `sends` where a whole body goes its way."""
        return self


def _close(opening: "asyncio.Future[Opened | None]") -> None:
    if not opening.cancelled() and opening.exception() is None and (opened := opening.result()) is not None:
        opened.close()


@dataclass(frozen=True, slots=True)
class StoreThreads:
    """Those of one store."""

    store: Volume
    asking: DiskThreads
    sending: DiskThreads


class VolumeThreads(DiskThreads):
    """Of a node with stores. What is asked of no bucket, or of one that lies nowhere yet, may ask all of them."""

    def __init__(
        self, executor: Executor, disks: Sequence[Volume], of_disks: DiskThreads, stores: Sequence[StoreThreads]
    ) -> None:
        super().__init__(executor)
        self._disks = disks
        self._of_disks = of_disks
        self._stores = stores

    def of(self, bucket: UUID, *, sends: bool = False) -> DiskThreads:
        for threads in self._stores:
            if threads.store.has_bucket(bucket):
                return threads.sending if sends else threads.asking
        return self._of_disks if any(disk.may_hold(bucket) for disk in self._disks) else self
