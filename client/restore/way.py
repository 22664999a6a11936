"""What stands where something restored is to be, or what is to go: removed only as far as a person has said.

Kept true: no link is followed, no other file system is entered, and what is protected (a vault, the keys of a device)
is never removed, nor any folder above it; what looks like a vault is one, whoever it belongs to.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.errors import UsageError
from client.platforms.linux import Identity, identity_of
from client.restore.descent import Descent

_VAULT_NAMES = frozenset({b"config", b"data", b"keys"})  # in the folder of every restic repository


def refuse_vaults(target: Path) -> None:
    """Raise UsageError if `target` is, or lies in, what looks like the folder of a vault."""
    place = Path(os.path.realpath(target))
    for folder in (place, *place.parents):
        config, keys, data = (os.path.join(folder, name) for name in ("config", "keys", "data"))
        if os.path.isfile(config) and os.path.isdir(keys) and os.path.isdir(data):
            raise UsageError(detail=f"cannot restore to {target}: {folder} is a vault; choose a folder outside it")


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


@dataclass(slots=True)
class _Emptied:
    """A folder that is being emptied: the names in it that are to be dealt with, and whether something stays."""

    name: bytes
    waiting: list[bytes]
    keeps: bool = False


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
    if not _is_folder(name, folder, protected):
        os.unlink(name, dir_fd=folder)
        return 1
    removed = 0
    with Descent(folder) as here:
        stack = [_entered(name, here)]
        while stack:
            emptied = stack[-1]
            if not emptied.waiting:
                here.leave()
                stack.pop()
                path = path.rpartition(b"/")[0]
                if not emptied.keeps:
                    os.rmdir(emptied.name, dir_fd=here.folder)
                    removed += 1
                elif stack:
                    stack[-1].keeps = True
                continue
            child = emptied.waiting.pop()
            if kept(path + b"/" + child):
                emptied.keeps = True
            elif _is_folder(child, here.folder, protected):
                stack.append(_entered(child, here))
                path += b"/" + child
            else:
                os.unlink(child, dir_fd=here.folder)
                removed += 1
    return removed


def _is_folder(name: bytes, folder: int, protected: frozenset[Identity]) -> bool:
    """Whether it is a folder, which may be entered to be removed. Raises OSError if it must stay."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if identity_of(found) in protected:
        raise OSError(errno.EBUSY, "it holds a vault or the keys of this device")
    if not stat.S_ISDIR(found.st_mode):
        return False
    if found.st_dev != os.fstat(folder).st_dev:
        raise OSError(errno.EXDEV, "another file system is mounted there")
    return True


def _entered(name: bytes, here: Descent) -> _Emptied:
    here.enter(name)
    children = list(map(os.fsencode, os.listdir(here.folder)))
    if _VAULT_NAMES.issubset(children):
        raise OSError(errno.EBUSY, "it is a vault")
    return _Emptied(name, children)
