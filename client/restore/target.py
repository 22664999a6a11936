"""The folder that a snapshot is restored to.

Kept true: nothing outside the target is touched, whatever the snapshot says: every name is one component, every
folder is opened from the one above it, and no link is followed. A file has its own name only when it is whole and
has its metadata; until then it is called `.oort-partial-...`, and is removed when the restore ends, so that what an
interrupted restore leaves can be told by its name.
"""

import contextlib
import errno
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from client.errors import TargetFull, UsageError
from client.platforms.linux import make_folder, open_folder
from client.vault.nodes import Node

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPEN_FOLDERS = 64


@dataclass(slots=True, eq=False)
class TargetFolder:
    """A folder in the target, made when something in it is. `node` is None for the target itself."""

    above: "TargetFolder | None"
    name: bytes
    path: bytes  # in the snapshot
    node: Node | None
    made: bool = False


@dataclass(slots=True)
class _Opened:
    descriptor: int
    users: int = 0


class Target:
    """Folders of the target as open descriptors. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = TargetFolder(None, b"", b"/", None, made=True)
        self._lock = threading.Lock()
        self._open: OrderedDict[TargetFolder, _Opened] = OrderedDict()
        self._root = -1
        self._is_new = False
        self._run = secrets.token_hex(4).encode()
        self._partials = count(1)

    def prepare(self) -> None:
        """Make the target if it is not there. Raises UsageError if anything is in it, or it cannot be used."""
        try:
            self._is_new = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise UsageError(detail=f"{self.path} is not empty: restore into a new or an empty folder")
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            detail = (error.strerror or str(error)).lower()
            if error.errno in _FULL:
                raise TargetFull(target=self.path, detail=detail) from None
            raise UsageError(detail=f"cannot restore to {self.path}: {detail}") from None

    def close(self) -> None:
        """Close all folders."""
        with self._lock:
            for opened in self._open.values():
                os.close(opened.descriptor)
            self._open.clear()
            if self._root >= 0:
                os.close(self._root)
                self._root = -1

    def remove_if_untouched(self) -> None:
        """Take the target away again if `prepare` made it and nothing came into it."""
        if self._is_new:
            with contextlib.suppress(OSError):  # it is not empty
                self.path.rmdir()

    def partial_name(self) -> bytes:
        """A name for a file that is not whole yet."""
        return b".oort-partial-%s-%d" % (self._run, next(self._partials))

    def fail_if_unusable(self, error: OSError) -> None:
        """Raise the error that ends the restore if nothing more can be written; return if one path is concerned."""
        if error.errno in _FULL:
            raise TargetFull(target=self.path, detail=(error.strerror or str(error)).lower()) from None
        if error.errno in (errno.EROFS, errno.EIO, errno.ENODEV):
            raise UsageError(detail=f"cannot write to {self.path}: {(error.strerror or str(error)).lower()}") from None

    @contextlib.contextmanager
    def opened(self, folder: TargetFolder) -> Iterator[int]:
        """A folder's descriptor, made and opened if need be. Raises OSError."""
        if folder.above is None:
            yield self._root
            return
        with self._lock:
            opened = self._opened(folder)
            opened.users += 1
        try:
            yield opened.descriptor
        finally:
            with self._lock:
                opened.users -= 1
                self._close_oldest()

    def _opened(self, folder: TargetFolder) -> _Opened:
        """Open the chain of folders from the nearest open one down."""
        missing: list[TargetFolder] = []
        here: TargetFolder = folder
        while here.above is not None and here not in self._open:
            missing.append(here)
            here = here.above
        descriptor = self._root if here.above is None else self._open[here].descriptor
        for child in reversed(missing):
            if not child.made:
                make_folder(child.name, descriptor)
                child.made = True
            descriptor = open_folder(child.name, descriptor)
            self._open[child] = _Opened(descriptor)
            self._close_oldest(keep=child)
        self._open.move_to_end(folder)
        return self._open[folder]

    def _close_oldest(self, keep: TargetFolder | None = None) -> None:
        if len(self._open) <= _OPEN_FOLDERS:
            return
        for folder, opened in list(self._open.items()):
            if not opened.users and folder is not keep:
                os.close(opened.descriptor)
                del self._open[folder]
                if len(self._open) <= _OPEN_FOLDERS:
                    return
