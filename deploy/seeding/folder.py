"""The folder that a bucket is exported to: a plain restic repository.

Kept true: a file has its name only when it is whole, synced and has the SHA-256 that its name says; one that is there
counts as whole only after it was read and hashed. What lies there and is no such file is never touched. One export
writes to it at a time.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from client.disk import private, sync_folder
from client.errors import DamagedVault
from client.stores.abc import ObjectInfo
from client.stores.alone import alone
from client.stores.local import LocalStore
from deploy.seeding.errors import FolderBusy, FolderFull, FolderTaken
from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import Purpose

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_FOLDERS = tuple(kind for kind in ObjectKind if not kind.is_root_file)
_PARTIAL = "tmp"  # restic has no folder of that name, and our own vaults one for the same
_PIECE = 1 << 20


class ExportFolder:
    """Made by `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path / _PARTIAL / "partial"

    @classmethod
    @contextmanager
    def open(cls, path: Path, config: bytes) -> Iterator["ExportFolder"]:
        """A new or empty folder, or one with this `config`, which is entered first; kept from other exports meanwhile.

        Raises FolderTaken, FolderBusy, FolderFull.
        """
        path = path.expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise FolderTaken(folder=path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(alone(path, wait=False))
            except BlockingIOError:
                raise FolderBusy(folder=path) from None
            folder = cls(path)
            folder._begin(config)
            yield folder

    def has(self, info: ObjectInfo) -> bool:
        """Whether an object lies here whole. What cannot be read is not: `take` puts it there anew."""
        path = self.path / info.name.path
        try:
            if path.stat().st_size != info.size:
                return False
            hashed = sha256()
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    hashed.update(piece)
        except OSError:
            return False
        return hashed.hexdigest() == info.name.id

    def take(self, name: ObjectName, frames: Iterator[bytes]) -> None:
        """Write an object. Raises DamagedVault for another SHA-256 than the name says, FolderFull, and as `frames`.

        FolderTaken where a folder lies in its place, or a file in that of its folder.
        """
        path = self.path / name.path
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700)
                sync_folder(path.parent.parent)
            self._write(name, frames)
            self.partial.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            if error.errno in _FULL:
                raise FolderFull(folder=self.path) from None
            if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError)):
                raise FolderTaken(folder=self.path) from None
            raise
        finally:
            self.partial.unlink(missing_ok=True)

    def count(self) -> int:
        """Objects of all kinds that lie here, root files apart."""
        with LocalStore(self.path).open(Purpose.READ) as session:
            return sum(1 for kind in _FOLDERS if kind is not ObjectKind.LOCK for _ in session.list(kind))

    def finish(self) -> None:
        (self.path / _PARTIAL).rmdir()
        sync_folder(self.path)

    def _begin(self, config: bytes) -> None:
        present = self.path / CONFIG.path
        if present.exists():
            if _read(present) != config:
                raise FolderTaken(folder=self.path)
        elif any(one != self.partial and not one.is_dir() for one in self.path.rglob("*")):
            raise FolderTaken(folder=self.path)
        try:
            for kind in (*_FOLDERS, _PARTIAL):
                (self.path / kind).mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise FolderTaken(folder=self.path) from None
        self.partial.unlink(missing_ok=True)
        sync_folder(self.path)
        self.take(CONFIG, iter((config,)))

    def _write(self, name: ObjectName, frames: Iterator[bytes]) -> None:
        hashed = sha256()
        with open(self.partial, "xb", opener=private) as file:
            for frame in frames:
                hashed.update(frame)
                file.write(frame)
            if name.id and hashed.hexdigest() != name.id:
                raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
            file.flush()
            os.fsync(file.fileno())


def _read(config: Path) -> bytes | None:
    """None where it cannot be read: whose repository lies beside it cannot be told then."""
    try:
        return config.read_bytes()
    except OSError:
        return None
