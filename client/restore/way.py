"""What stands where something restored is to be, or what is to go: removed only as far as a person has said.

Kept true: no link is followed, no other file system is entered, and what is protected (a vault, the keys of a device)
is never removed, nor any folder above it; what looks like a vault is one, whoever it belongs to.
"""

import errno
import os
import stat
from collections.abc import Callable

from client.platforms.linux import open_folder

Identity = tuple[int, int]  # st_dev, st_ino
_VAULT_NAMES = frozenset({b"config", b"data", b"keys"})  # in the folder of every restic repository


def give_name(partial: bytes, name: bytes, folder: int) -> None:
    """Give `partial` in the open `folder` the name `name`, which an empty folder gives up, and no other does.

    What is in a folder of that name was never listed for anybody. Raises OSError.
    """
    try:
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise OSError(errno.ENOTEMPTY, "a folder with something in it has its name: move that away") from None
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)


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
        children = frozenset(map(os.fsencode, os.listdir(opened)))
        if children >= _VAULT_NAMES:
            raise OSError(errno.EBUSY, "it is a vault")
        for child in children:
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
