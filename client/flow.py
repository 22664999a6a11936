"""Threads that work on one job together, and the queues between them.

Kept true: the first error of any thread ends every wait of all the others, and is the one that is reported, but for
one in a part of the crew, which ends that part alone; queues hold a bounded number of bytes, however many items that
is; no thread outlives the job.
"""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_LOOK = 0.2  # seconds after which a wait for a thread looks whether another has failed


class Stopped(Exception):
    """Another thread failed: end quietly, its error is the one that counts."""


class Crew:
    """The threads of one job, and the conditions they wait on. Whoever makes the crew ends it."""

    def __init__(self, patience: float = 2.0) -> None:
        """`patience`: seconds that each thread gets to end by itself before it is woken."""
        self._patience = patience
        self._threads: list[threading.Thread] = []
        self._conditions: WeakSet[threading.Condition] = WeakSet()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._parts: list[Crew] = []
        self._failed: Callable[[BaseException], None] = lambda _: None

    @property
    def error(self) -> BaseException | None:
        """The first error, if there was one."""
        return self._error

    def part(self, failed: Callable[[BaseException], None]) -> "Crew":
        """A crew that fails when this one does; what fails in it alone is told to `failed`, once, in any thread."""
        part = Crew(self._patience)
        part._failed = failed
        self._parts.append(part)
        return part

    def start(self, name: str, work: Callable[[], object]) -> threading.Thread:
        """Run `work` in a thread of its own; what it raises fails the crew."""

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - check() raises it again, in the crew's own thread
                self.fail(error)

        thread = threading.Thread(target=run, name=name)
        try:
            thread.start()
        finally:  # also if an interruption came meanwhile; not before, as others may look whom to join
            self._threads.append(thread)
        return thread

    def condition(self) -> threading.Condition:
        """A condition to `wait_until` something: a failure wakes who waits."""
        condition = threading.Condition()
        with self._lock:
            self._conditions.add(condition)
        return condition

    def fail(self, error: BaseException) -> None:
        """Stop everybody. Only the first error is kept, and holds nothing of what its calls worked with."""
        _clear_frames(error)
        with self._lock:
            is_first = self._error is None and not isinstance(error, Stopped)
            if is_first:
                self._error = error
            conditions = list(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()
        for part in self._parts:
            part.fail(error)
        if is_first:
            self._failed(error)

    def wait_until(self, condition: threading.Condition, is_so: Callable[[], bool]) -> None:
        """Wait on a condition of this crew, which is held, until something is so. Raises Stopped.

        The main thread looks up now and then: an interrupt that comes as it begins to wait does not wake it.
        """
        seconds = _LOOK if threading.current_thread() is threading.main_thread() else None
        while not condition.wait_for(lambda: self._error is not None or is_so(), seconds):
            pass
        self.ensure_running()

    def ensure_running(self) -> None:
        """Raise Stopped if some thread has failed."""
        if self._error is not None:
            raise Stopped

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def wait(self, threads: Iterable[threading.Thread] | None = None) -> None:
        """Wait until `threads`, or all, have ended. Raises Stopped as soon as any thread has failed."""
        for thread in self._threads if threads is None else threads:
            while thread.is_alive():
                thread.join(_LOOK)
                self.ensure_running()
        self.ensure_running()
        if threads is None:
            self._threads.clear()

    def end(self, *wakes: Callable[[], None]) -> None:
        """Wait for all threads to see a failure or the end of their work.

        Each of `wakes` frees those that wait for something else, and is called if that is needed after the ones before.
        """
        with ExitStack() as stack:
            stack.callback(self._join)  # also when one of them fails
            for wake in wakes:
                if self._join(self._patience):
                    return
                wake()

    def _join(self, seconds: float | None = None) -> bool:
        """Wait for all threads, and those that they start, at most `seconds` for each. True if all have ended."""
        joined: set[threading.Thread] = set()
        while new := self._started() - joined:
            for thread in new:
                thread.join(seconds)
            joined |= new
        return not any(thread.is_alive() for thread in joined)

    def _started(self) -> set[threading.Thread]:
        crews = (self, *self._parts)
        return {one for crew in crews for one in tuple(crew._threads) if one.ident is not None}  # noqa: SLF001 - crews


def _clear_frames(error: BaseException | None) -> None:
    """Have the calls that an error ended let go of their variables, such as a pack that was sent."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Buffers:
    """Parts of `size` bytes of a memory that threads lend each other; that which came back last is lent first."""

    def __init__(self, crew: Crew, memory: memoryview, size: int) -> None:
        self._memory = memory
        self._size = size
        self._crew = crew
        self._free = list(range(0, len(memory), size))[::-1]
        self._returned = crew.condition()

    def lend(self) -> "Loan":
        """Wait for a buffer; what is in it is left from earlier. Raises Stopped."""
        with self._returned:
            self._crew.wait_until(self._returned, lambda: bool(self._free))
            start = self._free.pop()
        return Loan(self, start, self._memory[start : start + self._size])

    def give_back(self, start: int) -> None:
        with self._returned:
            self._free.append(start)
            self._returned.notify()


class Loan:
    """A buffer, which begins at `start` of the memory, with one or more users; the last to let go gives it back."""

    def __init__(self, owner: Buffers, start: int, buffer: memoryview) -> None:
        self.start = start
        self.buffer = buffer
        self._owner = owner
        self._users = 1
        self._lock = threading.Lock()

    def share(self) -> None:
        """One user more."""
        with self._lock:
            self._users += 1

    def let_go(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self._owner.give_back(self.start)


class ByteQueue(Generic[T]):
    """Hands items from threads to threads; holds at most `limit` bytes, or a single item that is larger."""

    def __init__(self, crew: Crew, limit: int) -> None:
        self._crew = crew
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._held = 0
        self._closed = False
        self._room = crew.condition()
        self._filled = crew.condition()

    def put(self, item: T, size: int) -> None:
        """Wait for room, then hand over `item`, which holds `size` bytes. Raises Stopped."""
        with self._room:
            self._crew.wait_until(self._room, lambda: not self._held or self._held + size <= self._limit)
            self._held += size
        with self._filled:
            self._items.append((item, size))
            self._filled.notify()

    def get(self) -> T | None:
        """Wait for the next item; None when the queue is closed and empty. Raises Stopped."""
        with self._filled:
            self._crew.wait_until(self._filled, lambda: bool(self._items) or self._closed)
            if not self._items:
                return None
            item, size = self._items.popleft()
        with self._room:
            self._held -= size
            self._room.notify_all()
        return item

    def close(self) -> None:
        """No more items come: each getter ends when the queue is empty."""
        with self._filled:
            self._closed = True
            self._filled.notify_all()
