"""The further processes of an instance, as its first one keeps them.

Kept true: each runs the command that the first one runs, with its environment, and is told what it is (worker.py); one
that ends unasked is started again, after a pause that grows while it does not last; one whose event loop stands still
is ended, or what it has locked would be locked for ever; none outlives the first process, on whatever way that ends;
what the first one has open for the instance, they have too, so a lock on a file holds as long as one of them is there.
"""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry

from services.common.clock import Clock
from services.common.figures import Figures, Line, answer
from services.common.worker import Worker, environment_of, make_shared, worker_of

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LASTED_SECONDS = 60.0
_ANSWER_SECONDS = 2.0
_TICK_SECONDS = 1.0
# Looks without a tick in between before a worker is ended. Looks, and not a time: where all processes stood still, as
# those of a frozen container, one look passes. Two minutes are far more than a load keeps a process from the processor.
_LOOK_SECONDS, _LOOKS = 5.0, 24
_GRACE_SECONDS = 5.0  # beyond those of the drain, before one that does not end is ended
_ABANDONED = 1


class Crew:
    """Of an instance of `count` processes; `first` is this one. Drain it, then close it."""

    def __init__(self, count: int, told: Mapping[str, str], clock: Clock, registry: CollectorRegistry) -> None:
        """`told` are environment variables that the further processes have besides this one's."""
        self._shared = make_shared()
        self.first: Worker = worker_of(self._shared, 0, count)
        self._told = told
        self._clock = clock
        self._running: dict[int, tuple[asyncio.subprocess.Process, Line]] = {}
        self._ended: Figures = {}
        self._telling = threading.Lock()
        self._is_ending = False
        self._restarts = prometheus_client.Counter(
            "oort_worker_restarts", "Workers that ended unasked and were started again", registry=registry
        )
        self._log = structlog.get_logger("workers")

    def close(self) -> None:
        os.close(self._shared)

    async def keep(self, lent: Sequence[int]) -> None:
        """Have them run, for ever; `lent` are descriptors that each is to have open too."""
        await asyncio.gather(*(self._keep(number, lent) for number in range(1, self.first.count)))

    async def drain(self, seconds: float) -> None:
        """Have all of them end, and wait for it. Each lets its calls finish for `seconds`."""
        self._is_ending = True
        running = [process for process, _ in self._running.values()]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        waits = [asyncio.ensure_future(process.wait()) for process in running]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=seconds + _GRACE_SECONDS)
        if late:
            self._log.error("workers did not end in time, and are killed", workers=len(late))
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.wait(late)

    def figures(self) -> list[Figures]:
        """Of those that run, and of all that have ended. Blocks; for any thread."""
        with self._telling:
            running, ended = [line for _, line in self._running.values()], self._ended
        for line in running:
            line.ask()
        end = time.monotonic() + _ANSWER_SECONDS
        return [*(line.figures(end - time.monotonic()) for line in running), ended]

    async def _keep(self, number: int, lent: Sequence[int]) -> None:
        pause = _FIRST_PAUSE
        while not self._is_ending:
            begun = self._clock.monotonic()
            try:
                async with self._started(number, lent) as process:
                    why = f"it ended with {await process.wait()}"
            except OSError as error:
                why = f"it could not be started: {error.strerror}"
            if self._is_ending:
                return
            if self._clock.monotonic() - begun > _LASTED_SECONDS:
                pause = _FIRST_PAUSE
            self._log.error("a worker is started again", number=number, cause=why, seconds=pause)
            self._restarts.inc()
            await self._clock.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    @asynccontextmanager
    async def _started(self, number: int, lent: Sequence[int]) -> AsyncIterator[asyncio.subprocess.Process]:
        ours, its = socket.socketpair()
        with ours:
            with its:
                what = environment_of(number, self.first.count, self._shared, its.fileno(), lent)
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *sys.orig_argv[1:],
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**os.environ, **self._told, **what},
                    pass_fds=(self._shared, its.fileno(), *lent),
                )
            line = Line(ours)
            with self._telling:
                self._running[number] = process, line
            watching = asyncio.ensure_future(self._watch(number, process))
            try:
                if self._is_ending:
                    process.terminate()
                yield process
            finally:
                watching.cancel()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                self.first.counts[number] = self.first.ticks[number] = 0
                self._remember(number)

    async def _watch(self, number: int, process: asyncio.subprocess.Process) -> None:
        """End a worker whose event loop has run, and does not go on."""
        last = looks = 0
        while looks < _LOOKS:
            await self._clock.sleep(_LOOK_SECONDS)
            ticks = self.first.ticks[number]
            looks = looks + 1 if ticks and ticks == last else 0
            last = ticks
        self._log.error("a worker does not go on, and is killed", number=number, seconds=_LOOKS * _LOOK_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    def _remember(self, number: int) -> None:
        """A worker has ended. What it had told is at no moment counted twice, or not at all."""
        with self._telling:
            _, line = self._running.pop(number)
            total = Counter(self._ended)
            total.update(line.lasting())
            self._ended = dict(total)


def follow(worker: Worker, registry: CollectorRegistry) -> None:
    """In a further process: tell the first one its figures, and end with it, at once."""
    line = worker.line
    if line is None:
        return

    def run() -> None:
        answer(line, lambda: prometheus_client.generate_latest(registry))
        # As it would have been killed itself: what it has in hand is settled by those that come after it.
        os._exit(_ABANDONED)

    threading.Thread(target=run, name="follow", daemon=True).start()


async def tick(worker: Worker, clock: Clock) -> None:
    """In a further process: have the first one see that the event loop goes on, for ever."""
    while True:
        worker.ticks[worker.number] += 1
        await clock.sleep(_TICK_SECONDS)
