"""Calls of opendal: each with a time within which it must end, repeated while it may yet succeed.

Kept true: a call ends, whatever the store does; what the store asks to be left in peace about is asked again only after
a growing and random time, and no more calls are under way at once than the limit; a call that is given up sends nothing
any more. One that stood still until its time was over is begun again at least once: the time for repeating runs from
the first failure. What follows a call that was given up does not wait as long again: it is repeated for the short time
of a store that never answered, until the store answers as it should.

opendal's own layers for this are not used: its time limit is one number for a lock and for a pack of 128 MiB, and its
retries do not tell a host that was never there from one that is away for a moment.
"""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from clouds.failures import Failure, Trouble, is_of_opendal, read_failure

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
# As they should be, though no success.
_ANSWERS = frozenset((Trouble.MISSING, Trouble.EXISTS, Trouble.SHORT, Trouble.CUT))
_SMALL = 1 << 20  # bytes that a call carries
_LIMIT: ContextVar[tuple[asyncio.Timeout, float]] = ContextVar("limit")  # of the call under way in a task


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a store is waited for; all in seconds."""

    answer: float = 60  # for an answer, or more of one; a body may take longer by its size
    total: float = 180  # for repeating a call, from its first failure on
    new: float = 8  # for repeating one to a store that has never answered, or was given up since
    behind: float = 20  # for a store to show what was just stored there, from when it first did not; within `total`
    first: float = 0.5  # between two attempts at first, doubled each time
    longest: float = 30  # between two attempts
    quiet: float = 5  # before whoever waits is told that the store does not answer, or is busy
    slowest: int = 16 << 10  # bytes/s of a body; what comes or goes slower is dead


@dataclass(frozen=True, slots=True)
class Clock:
    """The time between two attempts, in seconds. That of tests jumps."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class _NoAnswer(Failure):
    """One that nothing came of in all the time that an answer may take."""


class Calls:
    """Runs awaitables of opendal in a thread of its own, for callers in any thread."""

    def __init__(
        self,
        patience: Patience,
        at_once: int = 16,
        *,
        small_at_once: int = 0,
        clock: Clock | None = None,
        waiting: Callable[[Failure | None], None] | None = None,
    ) -> None:
        """`small_at_once` calls of up to 1 MiB go beside `at_once` larger ones; all wait for the same, if it is 0.

        `waiting` is called in the thread of the calls: with why a store is waited for that has answered before, once
        it has answered no call for longer than a moment, and with None when it answers again.
        """
        self._patience = patience
        self._clock = clock or Clock()
        self._at_once = asyncio.Semaphore(at_once)
        self._small_at_once = asyncio.Semaphore(small_at_once) if small_at_once else self._at_once
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._answered = self._given_up = False
        self._last_answer = -math.inf  # to any call
        self._waiting = waiting
        self._is_waiting = False

    def begin(self, call: Callable[[], Awaitable[T]], size: int = 0) -> Future[T]:
        """Begin a call that carries `size` bytes; the future raises Failure. Cancelled, it sends nothing any more."""
        loop = self._running()
        if loop is None:
            refused: Future[T] = Future()
            refused.set_exception(_closed())
            return refused
        return asyncio.run_coroutine_threadsafe(self._until_closed(call, size), loop)

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """End what is under way, and the thread. Whoever waits for a call, or begins one, gets Failure.

        `last` is called in the thread before, to let go of what is of its loop, and must end soon.
        """
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_end(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is None and not self._closed:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_tell)
                self._thread = threading.Thread(target=self._loop.run_forever, name="cloud-store", daemon=True)
                self._thread.start()
            return self._loop

    async def _until_closed(self, call: Callable[[], Awaitable[T]], size: int) -> T:
        try:
            return await self._repeated(call, size)
        except asyncio.CancelledError:
            if self._closed:
                raise _closed() from None
            raise

    async def _repeated(self, call: Callable[[], Awaitable[T]], size: int) -> T:
        patience, monotonic = self._patience, self._clock.monotonic
        at_once = self._small_at_once if size <= _SMALL else self._at_once
        delay = patience.first
        silent = None  # since when, as far as this call tells
        failed = behind = None  # when first, and when for not showing what was stored
        while True:
            try:
                async with at_once:
                    answer = await _once(call, patience.answer + size / patience.slowest)
            except Failure as failure:
                now = monotonic()
                failed = now if failed is None else failed
                if silent is None:
                    silent = now - patience.answer if isinstance(failure, _NoAnswer) else now
                self._answered |= failure.trouble is not Trouble.UNREACHED
                self._given_up &= failure.trouble not in _ANSWERS
                wait = delay * random.uniform(0.5, 1)  # noqa: S311 - so that many clients do not come at once
                if not failure.passes:
                    raise
                if failure.trouble is Trouble.BEHIND:
                    behind = now if behind is None else behind
                    left = min(behind + patience.behind, failed + patience.total) - now
                    wait = min(wait, left)  # it is looked at last when the time is over
                    if left <= 0:
                        raise
                elif now + wait > failed + self._time():
                    self._given_up = True
                    raise
                elif now - max(silent, self._last_answer) >= patience.quiet and self._time() == patience.total:
                    self._tell_waiting(failure)
            else:
                self._answered, self._given_up = True, False
                self._last_answer = monotonic()
                self._tell_waiting(None)
                return answer
            await self._clock.sleep(wait)
            delay = min(delay * 2, patience.longest)

    def _tell_waiting(self, failure: Failure | None) -> None:
        """Once when it begins, and once when it is over, whatever calls there are."""
        if self._is_waiting != (failure is not None):
            self._is_waiting = failure is not None
            if self._waiting is not None:
                self._waiting(failure)

    def _time(self) -> float:
        return self._patience.total if self._answered and not self._given_up else self._patience.new


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a call that was given up had under way may fail when nobody waits for it: no error of the program's."""
    if isinstance(context.get("future"), asyncio.Future) and "exception" in context:
        _LOG.debug(context["message"], exc_info=context["exception"])
    else:
        loop.default_exception_handler(context)


def _closed() -> Failure:
    return Failure(Trouble.REFUSED, "it was closed")


def more_came() -> None:
    """Said within a call of which a part has come: the next part may take as long again."""
    limit, seconds = _LIMIT.get()
    limit.reschedule(asyncio.get_running_loop().time() + seconds)


def is_out_of_time() -> bool:
    """Whether the call under way is cancelled because its time is over."""
    limit, _ = _LIMIT.get()
    return limit.expired()


async def _once(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds) as limit:
            token = _LIMIT.set((limit, seconds))
            try:
                return await call()
            finally:
                _LIMIT.reset(token)  # the limit knows the task, and the task's context would keep it, and so the answer
    except TimeoutError:
        raise _NoAnswer(Trouble.UNREACHED, "it did not answer in time") from None
    except Exception as error:
        if not is_of_opendal(error):
            raise
        raise read_failure(error) from None


async def _end(last: Callable[[], Awaitable[None]] | None) -> None:
    if last is not None:
        await last()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
