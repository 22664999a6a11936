"""What lies in a folder, as far as the system tells it without anything being opened.

Kept true: two listings have the same digest only if they have the same names and, of each, all of lstat's answer that a
node can be made of (the access time is in no node), for the same user, whose rights decide what can be read, and with
the same names of owners. Content, attributes and the targets of links are told by their change time alone, which no
program can set.
"""

import marshal
import os
import stat
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter

from client.platforms.linux import group_name, user_name

DIGEST_BYTES = 32
AT_ONCE = 1024  # entries that are digested together

_LAYOUT = b"oort listing 2"  # changes with whatever is digested, or with how a node is made of it
_MARSHAL = 2  # the last version that gives equal bytes for equal values
_KIND = 0o170000  # S_IFMT
signature = attrgetter(
    *("st_mode", "st_uid", "st_gid", "st_size", "st_ino", "st_dev", "st_nlink", "st_mtime_ns", "st_ctime_ns", "st_rdev")
)


@dataclass(frozen=True, slots=True)
class Listing:
    """All that is wanted of a folder: how many entries, of which so many folders and files, with `size` bytes."""

    digest: bytes
    entries: int = 0
    folders: int = 0
    files: int = 0
    size: int = 0


def state(name: bytes, found: os.stat_result) -> int:
    """A number that tells, in this process, whether an entry is still what it was."""
    return hash((name, *signature(found)))


class Lister:
    """Makes a listing of entries that come in order."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.folders = array("q")  # where they are among the names
        self._digest = blake2b(_LAYOUT, digest_size=DIGEST_BYTES)
        self._owners: set[tuple[int, int]] = set()
        self._files = self._size = 0
        self._states = array("q")
        self._latest: list[tuple[int, ...]] = []  # signatures of the last entries, whose states nobody has asked for

    def add(self, names: Sequence[bytes], found: Sequence[os.stat_result]) -> None:
        """The next entries, at most AT_ONCE: names and what lstat says of each."""
        if not names:
            return
        self._end_latest()
        self._latest = list(map(signature, found))
        columns = list(zip(*self._latest, strict=True))
        modes, uids, gids, sizes = columns[:4]
        self._digest.update(marshal.dumps((list(names), columns), _MARSHAL))
        self._owners.update(zip(uids, gids, strict=True))
        if {mode & _KIND for mode in set(modes)} == {stat.S_IFREG}:
            self._files += len(sizes)
            self._size += sum(sizes)
        else:
            files = [size for mode, size in zip(modes, sizes, strict=True) if stat.S_ISREG(mode)]
            self._files += len(files)
            self._size += sum(files)
            self.folders.extend(at for at, mode in enumerate(modes, len(self.names)) if stat.S_ISDIR(mode))
        self.names += names

    @property
    def states(self) -> "array[int]":
        """What `state` says of each entry."""
        self._end_latest()
        return self._states

    def _end_latest(self) -> None:
        names = self.names[len(self._states) :]
        self._states.extend(hash((name, *row)) for name, row in zip(names, self._latest, strict=True))
        self._latest = []

    def finish(self) -> Listing:
        owners = [(uid, gid, user_name(uid), group_name(gid)) for uid, gid in sorted(self._owners)]
        self._digest.update(marshal.dumps((owners, os.geteuid()), _MARSHAL))
        return Listing(self._digest.digest(), len(self.names), len(self.folders), self._files, self._size)
