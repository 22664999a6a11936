"""Reading of whole copies that disturbs nobody: for scrubbing, and for files that were copied by hand.

Kept true: one file at a time is read, one piece of it is in memory, and all readers of one `SteadyReader` together read
no more bytes a second than they may.
"""

import asyncio
import ctypes
import os
import platform
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TypeVar

from services.common.clock import Clock
from services.storage.volumes.pace import Pace
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import OpenObject

Result = TypeVar("Result")

_PIECE = 1 << 20
_LOWEST = 19
# ioprio_set(2): its number by machine; a thread of class "idle" reads when nobody else wants the disk.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE = 3 << 13


def read_when_idle() -> ThreadPoolExecutor:
    """One thread that has the processor and the disk when nobody else wants them. Close it."""
    return ThreadPoolExecutor(1, thread_name_prefix="scrub", initializer=_step_back)


def _step_back() -> None:
    """Give the calling thread the lowest priority. A system that has no such thing reads as fast as ever."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, 1, 0, _IDLE)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)


class SteadyReader:
    """`thread` is one of `read_when_idle`."""

    def __init__(self, thread: DiskThreads, clock: Clock, bytes_per_second: int) -> None:
        self.thread = thread
        self._pace = Pace(clock, bytes_per_second)

    async def hash(self, opened: OpenObject, size: int, told: Callable[[int], None]) -> bytes | None:
        """The SHA-256 of `size` bytes; None if it was cut. `told` hears of each piece. Raises OSError, Unavailable."""
        hashed, offset = sha256(), 0

        def read() -> int:
            data = opened.read(offset, min(_PIECE, size - offset))
            opened.let_go(offset, _PIECE)  # nothing is kept in memory for it
            hashed.update(data)
            return len(data)

        # What lies on the disk is read, and not what memory still has of it.
        await self.thread.run(lambda: opened.let_go(0, size))
        while offset < size:
            got = await to_the_end(self.thread.run(read))
            if not got:
                return None
            offset += got
            told(got)
            await self._pace.spend(got)
        return hashed.digest()


async def to_the_end(step: Awaitable[Result]) -> Result:
    """Wait for a step even when cancelled: the thread reads from a file that its caller then closes."""
    running = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
