"""Which of an instance's processes this one is, and what all of them have together.

An instance is one process, or several that listen on its ports together: the first one starts the others (crew.py).

Kept true: what is counted here, and who has a lock, is known to all of them at once; what one had when it ended counts
for nothing any more: the kernel lets go of its locks, and the first process clears its count.
"""

import fcntl
import json
import mmap
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

from services.common.errors import StartError

MOST = 64
# Set for a further process by the first one alone: its number, how many there are, and its descriptors.
STARTED_AS = "OORT_STARTED_AS_WORKER"
_COUNT_BYTES = 8
_PLACES = 1 << 62


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
    def choosing(self) -> Iterator[None]:
        """Wait, and have the one lock that has no number. Of one thread at a time."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, _PLACES)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _PLACES)


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. `counts` has a number of each, of which it writes its own.

    A further one has a `line` to the first process, and what that has `lent`: its descriptors of files.
    """

    number: int = 0
    count: int = 1
    counts: "list[int] | memoryview" = field(default_factory=lambda: [0])
    locks: ByteLocks | None = None
    line: socket.socket | None = None
    lent: Sequence[int] = ()

    @property
    def is_first(self) -> bool:
        """Whether it does what an instance does once: all of it but to serve."""
        return self.number == 0

    @property
    def mark(self) -> str:
        """What names of files begin with that only this process has open; nothing in the first one."""
        return "" if self.is_first else f"{self.number}-"


def make_shared() -> int:
    """The descriptor of a file in memory for the counts and locks of `MOST` workers."""
    descriptor = os.memfd_create("oort-workers", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, MOST * _COUNT_BYTES)
    return descriptor


def worker_of(
    shared: int, number: int, count: int, line: socket.socket | None = None, lent: Sequence[int] = ()
) -> Worker:
    """One of `count`, with what they have together."""
    counts = memoryview(mmap.mmap(shared, MOST * _COUNT_BYTES)).cast("Q")[:count]
    return Worker(number, count, counts, ByteLocks(shared), line, lent)


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
