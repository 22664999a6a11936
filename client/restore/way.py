"""What stands where something restored is to be, or what is to go: removed only as far as a person has said.

Kept true: no link is followed, no other file system is entered, and what is protected (a vault, the keys of a device)
is never removed, nor any folder above it.
"""

import errno
import os
import stat
from collections.abc import Callable

from client.platforms.linux import open_folder

Identity = tuple[int, int]  # st_dev, st_ino


class ClearWay:
    """Gives restored files their names. `replaces_folders`: even where a folder with something in it has the name."""

    def __init__(self, protected: frozenset[Identity], *, replaces_folders: bool) -> None:
        self._protected = protected
        self._replaces_folders = replaces_folders

    def rename(self, partial: bytes, name: bytes, folder: int) -> None:
        """Give `partial` in the open `folder` the name `name`. Raises OSError if what has it must not give way."""
        try:
            os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            self._remove_folder(name, folder)
            os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _remove_folder(self, name: bytes, folder: int) -> None:
        if self._replaces_folders:
            remove(name, folder, self._protected)
            return
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise OSError(errno.ENOTEMPTY, "a folder with something in it has its name") from None


def remove(
    name: bytes,
    folder: int,
    protected: frozenset[Identity],
    kept: Callable[[bytes], bool] = lambda _: False,
    path: bytes = b"",
) -> int:
    """Remove a path and all below it, but for what is protected and what `kept` says of its path. Answers how many.

    `path` is that of `name`. Raises OSError.
    """
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if (found.st_dev, found.st_ino) in protected:
        raise OSError(errno.EBUSY, "it holds a vault or the keys of this device")
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=folder)
        return 1
    if found.st_dev != os.fstat(folder).st_dev:
        raise OSError(errno.EXDEV, "another file system is mounted there")
    removed = 0
    is_empty = True
    opened = open_folder(name, folder)
    try:
        for child in map(os.fsencode, os.listdir(opened)):
            below = path + b"/" + child
            if kept(below):
                is_empty = False
                continue
            removed += remove(child, opened, protected, kept, below)
            is_empty = is_empty and not _exists(child, opened)
    finally:
        os.close(opened)
    if is_empty:
        os.rmdir(name, dir_fd=folder)
        removed += 1
    return removed


def _exists(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
