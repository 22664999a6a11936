"""The folder that a snapshot is restored to.

Kept true: nothing outside the target is touched, whatever the snapshot says: every name is one component, every
folder is opened from the one above it, and no link is followed. A file has its own name only when it is whole and
has its metadata; until then it is called `.oort-partial-...`, so that what an interrupted restore leaves can be told
by its name, and is taken over or removed by the next one. Two restores never write to one target at once.
"""

import contextlib
import errno
import fcntl
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from client.errors import TargetFull, UsageError, reason_of
from client.platforms.linux import make_folder, open_folder
from client.restore.unfinished import MARKER, Unfinished
from client.restore.whole import NewFiles
from client.vault.nodes import Node

PARTIAL = b".oort-partial-"
_PARTIAL_NAME = re.compile(re.escape(PARTIAL) + rb"[0-9a-f]{16}-*")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPEN_FOLDERS = 64


def is_partial(name: bytes) -> bool:
    """Whether a name is one that `TargetFolder.partial_name` gives."""
    return _PARTIAL_NAME.fullmatch(name) is not None


@dataclass(slots=True, eq=False)
class TargetFolder:
    """A folder in the target, made when something in it is. `node` is None for the target itself."""

    above: "TargetFolder | None"
    name: bytes
    path: bytes  # in the snapshot
    node: Node | None
    made: bool = False
    found: bool = False  # it was there before
    taken: frozenset[bytes] = frozenset()  # names in the snapshot that look like those of partial files
    new_files: NewFiles = field(default_factory=NewFiles)

    def partial_name(self, name: bytes) -> bytes:
        """What the file `name` is called until it is whole: the same in every restore."""
        partial = PARTIAL + sha256(name).hexdigest()[:16].encode()
        while partial in self.taken:
            partial += b"-"
        return partial


@dataclass(slots=True)
class _Opened:
    descriptor: int
    users: int = 0


class Target:
    """Folders of the target as open descriptors. Safe for several threads."""

    def __init__(self, path: Path, unfinished: Unfinished) -> None:
        self.path = path
        self.root = TargetFolder(None, b"", b"/", None, made=True)
        self.is_resumed = False
        self.is_fresh = True  # there was nothing in it
        self._unfinished = unfinished
        self._lock = threading.Lock()
        self._open: OrderedDict[TargetFolder, _Opened] = OrderedDict()
        self._root = -1
        self._is_new = False

    @property
    def keeps_data(self) -> bool:
        """Whether a file of the right size and time has its content, even if it was written by a restore that ended."""
        return self._unfinished.same_boot

    def prepare(self, *, overwriting: bool) -> None:
        """Make the target if it is not there. Raises UsageError if it cannot be used.

        Unless `overwriting`, nothing may be in it, or what the same restore left there unfinished.
        """
        with self._told():
            self._is_new = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._take()
            self._look(overwriting=overwriting)
            if not overwriting and not self.is_resumed:
                self._unfinished.begin(self._root)

    def inspect(self, *, overwriting: bool) -> None:
        """As `prepare`, touching nothing."""
        with self._told():
            if self.path.exists():
                self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._look(overwriting=overwriting)

    def finish(self) -> None:
        """All that can be restored is: the target is no unfinished restore any more."""
        self._unfinished.end(self._root)

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
        """Leave no trace in the target if nothing came into it."""
        if self._root >= 0 and os.listdir(self._root) == [os.fsdecode(MARKER)]:
            self._unfinished.end(self._root)
        if self._is_new:
            with contextlib.suppress(OSError):  # it is not empty
                self.path.rmdir()

    def fail_if_unusable(self, error: OSError) -> None:
        """Raise the error that ends the restore if nothing more can be written; return if one path is concerned."""
        if error.errno in _FULL:
            raise TargetFull(target=self.path, detail=reason_of(error)) from None
        if error.errno in (errno.EROFS, errno.EIO, errno.ENODEV):
            raise UsageError(detail=f"cannot write to {self.path}: {reason_of(error)}") from None

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

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            detail = reason_of(error)
            if error.errno in _FULL:
                raise TargetFull(target=self.path, detail=detail) from None
            raise UsageError(detail=f"cannot restore to {self.path}: {detail}") from None

    def _take(self) -> None:
        try:
            fcntl.flock(self._root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(detail=f"another restore is writing to {self.path}: wait until it has ended") from None
        except OSError:
            return  # a file system without such locks

    def _look(self, *, overwriting: bool) -> None:
        with os.scandir(self._root) as entries:
            self.is_fresh = next(entries, None) is None
        if self.is_fresh:
            return
        if overwriting:
            self._unfinished.adopt(self._root)
            return
        self._unfinished.check(self._root, self.path)
        self.is_resumed = True

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
