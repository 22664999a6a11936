"""Reading of one object's file.

Kept true: a file that cannot be opened is no copy (EIO, EACCES); only what says nothing of the file, because the
process is short of something or the whole file system is away, is Unavailable.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import structlog

from services.common.errors import Unavailable

PASSING = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE)
)
_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)
_log = structlog.get_logger("storage")


class OpenFile:
    """An open file of an object: it stays readable whatever happens to its name. Close it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`; fewer than `length` only if the file was cut since it was opened. Raises OSError."""
        return os.pread(self._handle, length, offset)

    def read_cached(self, offset: int, into: memoryview) -> bool:
        """Fill `into` from `offset` without waiting; False unless all of it is in memory.

        That cannot be asked of every system and file system.
        """
        if not _NO_WAIT:
            return False
        try:
            return os.preadv(self._handle, [into], offset, _NO_WAIT) == len(into)
        except OSError:
            return False  # what is wrong, if anything, is told by `read`

    def let_go(self, offset: int, length: int) -> None:
        """Have the system drop from memory what it has read of a part: the next reading is one of the disk."""
        with suppress(OSError):  # not every file system takes the advice, which says nothing of what is read
            os.posix_fadvise(self._handle, offset, length, os.POSIX_FADV_DONTNEED)

    @property
    def modified_ns(self) -> int:
        """When it was written, in nanoseconds since 1970. Raises OSError."""
        return os.fstat(self._handle).st_mtime_ns

    def close(self) -> None:
        os.close(self._handle)


def open_file(path: Path, size: int, *, cut: bool = False) -> OpenFile | None:
    """None if there is no readable file of `size` bytes. Raises Unavailable where that cannot be said now.

    With `cut` it may have more bytes, or be what is left of a longer one.
    """
    try:
        # Not blocked by what is no file at all.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        _judge(path, error)
        return None
    found = os.fstat(handle)
    fits = found.st_size >= size if cut else found.st_size == size
    if not fits or not stat.S_ISREG(found.st_mode):
        os.close(handle)
        return None
    return OpenFile(handle)


def size_of(path: Path) -> int | None:
    """The size of a file; None if there is none. Raises Unavailable where that cannot be said now."""
    try:
        found = path.stat()
    except OSError as error:
        _judge(path, error)
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _judge(path: Path, error: OSError) -> None:
    if error.errno in PASSING:
        raise Unavailable(what=f"The disk with {path}") from error
    if error.errno != errno.ENOENT:
        _log.error("a copy cannot be opened", path=str(path), cause=str(error))
