"""Regular files, opened for a backup.

Kept true: what is opened is a regular file, whatever took its place since the scan; why one could not be read is
said in a few words, without its path.
"""

import errno
import os
import stat
from typing import NamedTuple

from client.errors import reason_of
from client.platforms.linux import open_for_reading

_STATED = 7  # what a stat_result begins with: mode, inode, device, links, owner, group, size
_OWNER = 4
CHANGED = "it changed while it was read: stored as it was read"
_REPLACED = "it was replaced by something else while the backup ran: left out"


class Seen(NamedTuple):
    """What a backup takes from a file's stat to see whether the file stays what it was; times in nanoseconds."""

    stated: tuple[float, ...]  # whole numbers, whatever its type says
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Seen":
        return cls(found[:_STATED], found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def owner(self) -> int:
        """The file's uid."""
        return int(self.stated[_OWNER])

    def is_unchanged(self, after: os.stat_result) -> bool:
        """Whether it stayed what it was while it was read. Sizes read are no sign: /proc and /sys announce others."""
        return self[1:] == (after.st_size, after.st_mtime_ns, after.st_ctime_ns)


def open_regular(path: bytes, owner: int) -> tuple[int, os.stat_result]:
    """Open a file that the scan found, whose uid was `owner`: the descriptor, and what it is. Raises OSError."""
    opened = open_for_reading(path, owner)
    is_what = os.fstat(opened)
    if stat.S_ISREG(is_what.st_mode):
        return opened, is_what
    os.close(opened)
    raise OSError(errno.ELOOP, "not a regular file")


def why_unopened(error: OSError) -> str:
    """Why `open_regular` failed."""
    return _REPLACED if error.errno == errno.ELOOP else reason_of(error)
