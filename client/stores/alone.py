"""One process of this machine at a time at something. The lock falls with the process that has it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock: there one process at a time makes a vault, and lets go of a cache
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(place: Path, flags: int = os.O_RDONLY, *, wait: bool = True) -> Iterator[None]:
    """Keep other processes of this machine out of a folder, or of what a file stands for. Raises OSError.

    With the `flags` it is opened, and with O_CREAT made for its owner alone. Who does not `wait` for another process
    has BlockingIOError.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(place, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
