"""Which of an instance's processes this one is, and what all of them have together.

An instance is one process, or several that listen on its ports together: the first one starts the others (crew.py).

Kept true: what is counted here, and who has a lock, is known to all of them at once; what one had when it ended counts
for nothing any more: the kernel lets go of its locks, and the first process clears its numbers.
"""

import errno
import fcntl
import json
import mmap
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version

from services.common.errors import StartError

MOST = 64
# Set for a further process by the first one alone: its number, how many there are, and its descriptors.
STARTED_AS = "OORT_STARTED_AS_WORKER"
_DROPS = 64
_COUNT_BYTES = 8
_SHARED_BYTES = (2 * MOST + _DROPS) * _COUNT_BYTES  # a count and the ticks of each, and the drops of all
_PLACES = 1 << 62
_LOOK_SECONDS = 0.01


class ByteLocks:
    """Locks between processes, each a byte of a file, by a number of 62 bits. In one process they hold nobody.

    POSIX's (fcntl(2)), which the kernel takes back when their process ends.
    """

    def __init__(self, descriptor: int) -> None:
        """The file; no other descriptor of it may be closed meanwhile, which would let go of all."""
        self._descriptor = descriptor

    def take(self, place: int, *, alone: bool) -> bool:
        """Have it alone, or with others. False if another process has it otherwise; nobody waits."""
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.lockf(self._descriptor, kind | fcntl.LOCK_NB, 1, place % _PLACES)
        except (BlockingIOError, PermissionError):  # as POSIX leaves it open
            return False
        return True

    def let_go(self, place: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place % _PLACES)

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Wait for a lock of another kind, by a small number, and have it alone. For one thread at a time."""
        place = _PLACES + number
        while not self._waited_for(place):
            time.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    def _waited_for(self, place: int) -> bool:
        """False where the kernel takes threads of two processes that wait for locks of each other for the processes."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, place)
        except OSError as error:
            if error.errno != errno.EDEADLK:
                raise
            return False
        return True


class InstanceLock:
    """What one thread of one process of the instance has at a time. Whoever has one may wait for none that it has."""

    def __init__(self, locks: ByteLocks | None, number: int) -> None:
        """The lock of that number among `locks`; with None there is no other process."""
        self._thread = threading.Lock()
        self._locks = locks
        self._number = number

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._thread, self._locks.held(self._number) if self._locks else nullcontext():
            yield


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. `counts` has a number of each, of which it writes its own.

    A further one has a `line` to the first process, and what that has `lent`: its descriptors of files. `ticks` has a
    number of each, which grows as long as its event loop goes on; 0 before that runs.
    `drops` tell how often the first one has begun and ended to remove folders that others may believe in: a number for
    all whose owners are the same modulo the numbers that there are.
    """

    number: int = 0
    count: int = 1
    counts: "list[int] | memoryview" = field(default_factory=lambda: [0])
    locks: ByteLocks | None = None
    line: socket.socket | None = None
    lent: Sequence[int] = ()
    ticks: "list[int] | memoryview" = field(default_factory=lambda: [0])
    drops: "list[int] | memoryview" = field(default_factory=lambda: [0] * _DROPS)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_first(self) -> bool:
        """Whether it does what an instance does once: all of it but to serve."""
        return self.number == 0

    @property
    def mark(self) -> str:
        """What names of files begin with that only this process has open; nothing in the first one."""
        return "" if self.is_first else f"{self.number}-"

    @contextmanager
    def dropping(self, owner: int) -> Iterator[None]:
        """While the first process removes folders of an owner. What anybody knew of them until then counts for nothing.

        So it is known, at any time after a file has come to a folder, whether that was still the one that was known.
        """
        place = owner % _DROPS
        with self._turn:
            self.drops[place] += 1
            try:
                yield
            finally:
                self.drops[place] += 1

    def drops_of(self, owner: int) -> int:
        return self.drops[owner % _DROPS]

    def dropped_since(self, owner: int, drops: int) -> bool:
        """Whether folders have gone since there were so many `drops`; an odd number says that some were just going."""
        return bool(drops % 2) or self.drops_of(owner) != drops


def make_shared() -> int:
    """The descriptor of a file in memory for the counts and locks of `MOST` workers."""
    descriptor = os.memfd_create("oort-workers", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _SHARED_BYTES)
    return descriptor


def worker_of(
    shared: int, number: int, count: int, line: socket.socket | None = None, lent: Sequence[int] = ()
) -> Worker:
    """One of `count`, with what they have together."""
    numbers = memoryview(mmap.mmap(shared, _SHARED_BYTES)).cast("Q")
    ticks, drops = numbers[MOST : MOST + count], numbers[2 * MOST :]
    return Worker(number, count, numbers[:count], ByteLocks(shared), line, lent, ticks=ticks, drops=drops)


def environment_of(number: int, count: int, shared: int, line: int, lent: Sequence[int] = ()) -> dict[str, str]:
    """What tells a further process what it is; all descriptors are to be its own as well."""
    return {STARTED_AS: json.dumps([version("oort"), number, count, shared, line, *lent])}


def started_as(environ: Mapping[str, str]) -> Worker | None:
    """What this process was started as by another one of its instance; None if by nobody such.

    Raises StartError, also where the first one is of another version: what that has in the database may be another too.
    """
    told = environ.get(STARTED_AS)
    if told is None:
        return None
    try:
        release, *numbers = json.loads(told)
        if release != version("oort"):
            raise StartError(f"{version('oort')} is installed, and the first process is {release}: start it again")
        number, count, shared, line, *lent = map(int, numbers)
        return worker_of(shared, number, count, socket.socket(fileno=line), lent)
    except (ValueError, TypeError, OSError) as error:
        raise StartError(f"{STARTED_AS} is set by a process for those that it starts, and by nobody else") from error
