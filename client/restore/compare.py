"""How a restored tree differs from its original: names, kinds, bytes, modes, owners, times, links, attributes, holes.

Access and change times are not compared: no program can give a file its former change time.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = 1 << 20
_HOLE = 4096  # bytes; what a hole is made of on common file systems


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` below the two trees, empty for the trees themselves; `what` says in which way they differ."""

    path: bytes
    what: str

    def __str__(self) -> str:
        return f"{os.fsdecode(self.path) or '.'}: {self.what}"


def differences(
    original: os.PathLike[str],
    restored: os.PathLike[str],
    *,
    owners: bool = True,
    skipped: frozenset[bytes] = frozenset(),
    holes: bool = False,
) -> Iterator[Difference]:
    """Compare two folders (or two files). An original that vanishes meanwhile is a difference.

    Without `owners`, user and group are left out: only root can give files away. `skipped` are paths below the two
    trees that are left out with all that is in them. With `holes`, what was a hole must be one: a snapshot does not
    tell holes from zeros, so there may be more of them. Raises OSError when either tree cannot be read.
    """
    comparison = _Comparison(os.fsencode(original), os.fsencode(restored), owners, skipped, holes)
    yield from comparison.node(b"")


class _Comparison:
    def __init__(self, original: bytes, restored: bytes, owners: bool, skipped: frozenset[bytes], holes: bool) -> None:
        self._original = original
        self._restored = restored
        self._owners = owners
        self._skipped = skipped
        self._holes = holes
        self._links: dict[tuple[int, int], tuple[int, int]] = {}

    def node(self, path: bytes) -> Iterator[Difference]:
        try:
            yield from self._node(path)
        except (FileNotFoundError, NotADirectoryError):
            if not path or os.path.lexists(self._path(self._original, path)):
                raise
            yield Difference(path, "has vanished from the original")

    def _node(self, path: bytes) -> Iterator[Difference]:
        one, other = self._path(self._original, path), self._path(self._restored, path)
        before, after = os.lstat(one), os.lstat(other)
        if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
            yield Difference(path, f"is a {_kind(after)} and was a {_kind(before)}")
            return
        yield from (Difference(path, what) for what in self._metadata(before, after))
        if os.listxattr(one, follow_symlinks=False) or os.listxattr(other, follow_symlinks=False):
            yield from (Difference(path, what) for what in _attributes(one, other))
        if stat.S_ISREG(before.st_mode):
            yield from (Difference(path, what) for what in self._content(one, other, before, after))
        elif stat.S_ISLNK(before.st_mode) and os.readlink(one) != os.readlink(other):
            yield Difference(path, "links to another target")
        elif stat.S_ISDIR(before.st_mode):
            yield from self._folder(path, set(os.listdir(one)), set(os.listdir(other)))

    @staticmethod
    def _path(root: bytes, path: bytes) -> bytes:
        return os.path.join(root, path) if path else root

    def _folder(self, path: bytes, before: set[bytes], after: set[bytes]) -> Iterator[Difference]:
        for name in sorted(before | after):
            below = os.path.join(path, name)
            if below in self._skipped:
                continue
            if name not in after:
                yield Difference(below, "is missing")
            elif name not in before:
                yield Difference(below, "was not there")
            else:
                yield from self.node(below)

    def _metadata(self, before: os.stat_result, after: os.stat_result) -> Iterator[str]:
        if before.st_mode != after.st_mode:
            yield f"has mode {stat.filemode(after.st_mode)} and had {stat.filemode(before.st_mode)}"
        if self._owners and (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid):
            yield f"belongs to {after.st_uid}:{after.st_gid} and belonged to {before.st_uid}:{before.st_gid}"
        if before.st_mtime_ns != after.st_mtime_ns:
            yield f"was modified at {after.st_mtime_ns} ns and had been at {before.st_mtime_ns} ns"
        if before.st_rdev != after.st_rdev:
            yield "is another device"

    def _content(self, one: bytes, other: bytes, before: os.stat_result, after: os.stat_result) -> Iterator[str]:
        if before.st_nlink > 1:
            twin = self._links.setdefault((before.st_dev, before.st_ino), (after.st_dev, after.st_ino))
            if twin != (after.st_dev, after.st_ino):
                yield "is no longer the same file as its other names"
        if before.st_size != after.st_size:
            yield f"has {after.st_size} bytes and had {before.st_size}"
        elif not _same_bytes(one, other):
            yield "has other content"
        elif self._holes and before.st_size and not _data(other) <= _data(one):
            yield "takes up disk where it had a hole"


def _kind(found: os.stat_result) -> str:
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds[stat.S_IFMT(found.st_mode)]


def _attributes(one: bytes, other: bytes) -> Iterator[str]:
    def read(path: bytes) -> dict[str, bytes]:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}

    before, after = read(one), read(other)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"has another attribute {name}"


def _data(path: bytes) -> set[int]:
    """The numbers of the blocks of a file that are no holes."""
    blocks: set[int] = set()
    with open(path, "rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return blocks
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            blocks.update(range(start // _HOLE, -(-end // _HOLE)))


def _same_bytes(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as left, open(other, "rb") as right:
        while block := left.read(_BLOCK):
            if block != right.read(_BLOCK):
                return False
        return not right.read(1)
