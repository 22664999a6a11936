"""Whether a restored tree equals its original: every file, mode, time, owner, link and attribute.

Kept true: a difference is forgiven only when the original itself was changed after the backup began (its status-change
time says so), when the backup has named the path as unreadable, or when the kernel lets only root restore it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 1 << 20
# Set by the kernel or its security modules for the place where a file lies, not by who owns it.
_PLACE_ATTRIBUTES = ("security.selinux", "security.ima", "security.evm")


@dataclass(slots=True)
class Comparison:
    """What was found; sizes in bytes."""

    files: int = 0
    folders: int = 0
    links: int = 0
    others: int = 0  # pipes and devices
    bytes: int = 0
    different: list[str] = field(default_factory=list)
    changed_meanwhile: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    sockets: int = 0  # not backed up: they are nothing without their server

    @property
    def entries(self) -> int:
        return self.files + self.folders + self.links + self.others


@dataclass(frozen=True, slots=True)
class Expectation:
    """What may differ; `began_ns` is when the backup began, in nanoseconds since 1970."""

    began_ns: int
    unreadable: frozenset[str]
    as_root: bool


def compare(original: Path, restored: Path, expectation: Expectation) -> Comparison:
    """Compare two trees, entry by entry; differences are sentences."""
    found = Comparison()
    inodes: dict[tuple[int, int], tuple[int, int]] = {}
    for source, target in _pairs(original, restored):
        if str(source) in expectation.unreadable:
            found.unreadable.append(str(source))
            continue
        status = _status(source)
        if status is not None and stat.S_ISSOCK(status.st_mode):
            found.sockets += 1
            continue
        differences = list(_differences(source, target, status, inodes, expectation))
        if status is not None:
            _count(found, status)
        if not differences:
            continue
        if _changed_since(source, status, expectation.began_ns):
            found.changed_meanwhile.append(str(source))
        else:
            found.different += [f"{source}: {difference}" for difference in differences]
    return found


def _pairs(original: Path, restored: Path) -> Iterator[tuple[Path, Path]]:
    """Every path of either tree, with its place in both."""
    stack = [(original, restored)]
    while stack:
        source, target = stack.pop()
        yield source, target
        names = sorted(_names(source) | _names(target))
        stack += [(source / name, target / name) for name in reversed(names)]


def _names(folder: Path) -> set[str]:
    try:
        if stat.S_ISDIR(folder.lstat().st_mode):
            return set(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except (FileNotFoundError, PermissionError):
        pass  # said where the folder itself is compared
    return set()


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _count(found: Comparison, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        found.files += 1
        found.bytes += status.st_size
    elif stat.S_ISDIR(status.st_mode):
        found.folders += 1
    elif stat.S_ISLNK(status.st_mode):
        found.links += 1
    else:
        found.others += 1


def _changed_since(source: Path, status: os.stat_result | None, began_ns: int) -> bool:
    """Whether the original, or the folder that it was removed from, was touched after the backup began."""
    if status is None:
        parent = _status(source.parent)
        return parent is None or parent.st_ctime_ns >= began_ns
    return status.st_ctime_ns >= began_ns


def _differences(
    source: Path,
    target: Path,
    status: os.stat_result | None,
    inodes: dict[tuple[int, int], tuple[int, int]],
    expectation: Expectation,
) -> Iterator[str]:
    restored = _status(target)
    if status is None or restored is None:
        yield "is in the original no more" if status is None else "was not restored"
        return
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(restored.st_mode):
        yield "is of another kind"
        return
    if not stat.S_ISLNK(status.st_mode) and status.st_mode != restored.st_mode:
        yield f"mode {stat.S_IMODE(status.st_mode):o} became {stat.S_IMODE(restored.st_mode):o}"
    if status.st_mtime_ns != restored.st_mtime_ns:
        yield f"time {status.st_mtime_ns} became {restored.st_mtime_ns}"
    if expectation.as_root and (status.st_uid, status.st_gid) != (restored.st_uid, restored.st_gid):
        yield f"owner {status.st_uid}:{status.st_gid} became {restored.st_uid}:{restored.st_gid}"
    if stat.S_ISLNK(status.st_mode) and source.readlink() != target.readlink():
        yield f"the link's target became {target.readlink()}"
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        if status.st_rdev != restored.st_rdev:
            yield "the device became another"
    elif stat.S_ISREG(status.st_mode):
        if status.st_nlink > 1:
            known = inodes.setdefault((status.st_dev, status.st_ino), (restored.st_dev, restored.st_ino))
            if known != (restored.st_dev, restored.st_ino):
                yield "is no longer the same file as its other names"
        if status.st_size != restored.st_size or not _same_bytes(source, target):
            yield "the content differs"
    if _attributes(source, as_root=expectation.as_root) != _attributes(target, as_root=expectation.as_root):
        yield "the extended attributes differ"


def _same_bytes(source: Path, target: Path) -> bool:
    with source.open("rb", buffering=0) as one, target.open("rb", buffering=0) as other:
        while True:
            block = one.read(_BLOCK)
            if block != other.read(_BLOCK):
                return False
            if not block:
                return True


def _attributes(path: Path, *, as_root: bool) -> dict[str, bytes]:
    """Extended attributes, access lists among them; only those of the user's own space where others need root."""
    if not hasattr(os, "listxattr"):
        return {}
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if name in _PLACE_ATTRIBUTES or not (as_root or name.startswith("user.")):
            continue
        found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found
