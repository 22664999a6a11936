"""A file that somebody has copied by hand into a bucket's folder, opened to be entered where it lies.

Kept true: what is read of it afterwards is what the disk has: its content and the names of all folders above it are
synced when it is opened. That it is no link, lies below none, and is one that the node can replace and remove later, is
asked before it is read; that nobody has changed it meanwhile, after that.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Self

from services.storage.volumes.folders import sync_folder
from services.storage.volumes.reading import PASSING, OpenFile


class Unfit(Exception):
    """Why a file is not entered; `passing` if it may be when it is looked at again."""

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class CopiedFile(OpenFile):
    """Made by `open`. Close it."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle)
        self._path = path
        self._opened = os.fstat(handle)

    @classmethod
    def open(cls, top: Path, path: Path) -> Self | None:
        """A file below the bucket's folder `top`; None if there is none. Raises Unfit."""
        folders = path.parents[: len(path.relative_to(top).parts) - 1]
        if any(folder.is_symlink() for folder in (*folders, top)):
            raise Unfit("its folder is a link")
        try:
            # Not blocked by what is no file at all.
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unfit(error) from error
        opened = cls(handle, path)
        try:
            opened._settle([*folders, top, top.parent])
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._opened.st_size

    def is_unchanged(self) -> bool:
        """Whether it lies in its place still, and nobody has written to it since it was opened."""
        try:
            there = self._path.lstat()
        except OSError:
            return False
        return _identity(there) == _identity(os.fstat(self._handle)) == _identity(self._opened)

    def _settle(self, folders: list[Path]) -> None:
        if not stat.S_ISREG(self._opened.st_mode):
            raise Unfit("it is no regular file")
        if self._opened.st_dev != folders[-1].stat().st_dev:  # which could go away, and this one's marker stay
            raise Unfit("it lies on another file system than the folders of other buckets")
        if not os.access(self._path.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise Unfit("the node may not change its folder: give that to the user that the node runs as")
        try:
            os.fsync(self._handle)
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            raise _unfit(error) from error


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _unfit(error: OSError) -> Unfit:
    if error.errno == errno.ELOOP:
        return Unfit("it is a link")
    return Unfit(f"it cannot be read: {error.strerror}", passing=error.errno in PASSING)
