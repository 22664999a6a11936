"""Room that a disk which is full still has for a prune: a file that gives way to it.

Kept true: it gives way only to what a session of retention cannot begin or go on without, its lock and its index files,
so that what no snapshot needs can be removed from a full disk. Nothing depends on there being one: a disk that has no
room for it, or a system that cannot set room aside, goes without.
"""

import contextlib
import errno
import os
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
RESERVE = "reserve"
_BYTES = 4 << 20  # a lock, and index files of some 80,000 blobs


def keep_reserve(folder: Path) -> None:
    """Set the room aside, if that was not done, in a folder that need not be there."""
    if not hasattr(os, "posix_fallocate"):
        return
    path = folder / RESERVE
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)


def give_way(folder: Path) -> bool:
    """Whether there was room set aside, which is free now."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    return True
