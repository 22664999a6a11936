"""Bodies in a store: on their way in, waiting for their place, and read."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import structlog

from services.common.errors import ServiceError
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.staging import ArrivingFile, StagedName

if TYPE_CHECKING:
    from services.storage.volumes.remote.volume import RemoteVolume


class RemoteObject:
    """Read by ranges, none of which is kept: what a reader asks for at once is what is held of it."""

    def __init__(self, volume: "RemoteVolume", path: str, size: int) -> None:
        self._volume = volume
        self._path = path
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def is_unchanged(self) -> bool:
        return self._volume.store.size(self._path) == self._size

    def read(self, offset: int, length: int) -> bytes:
        """Nothing if it has been cut or removed since it was opened. Raises Unavailable."""
        data = self._volume.store.read(self._path, offset, max(min(length, self._size - offset), 0))
        if data is None:
            self._volume.require_there()
            return b""
        return data

    def read_cached(self, offset: int, into: memoryview) -> bool:  # noqa: ARG002 - nothing is
        return False

    def let_go(self, offset: int, length: int) -> None:
        """Nothing is kept in memory."""

    def close(self) -> None:
        """Nothing is held open."""


class SpooledBody:
    """One on its way in: into the spool, then to the store, then into its place."""

    def __init__(self, volume: "RemoteVolume", spool: Spool, file: ArrivingFile, staged: StagedName, size: int) -> None:
        self._volume = volume
        self._spool = spool
        self._file = file
        self._staged = staged
        self._size = size
        self._path = f"{volume.incoming_of(staged.bucket)}{PurePosixPath(file.path.name).stem.partition('.')[2]}"
        self._may_be_stored = False

    def write(self, frame: bytes | memoryview) -> None:
        try:
            self._file.write(frame)
        except OSError as error:
            raise self._spool.explain(error) from error

    def finish(self) -> None:
        """Verify the whole body, then store it. Raises NameMismatch, DiskFull, Unavailable."""
        self._file.verify()
        self._file.close()
        self._may_be_stored = True
        self._volume.store.upload(self._file.path, self._path, self._size)
        self._file.discard()

    def place(self) -> None:
        WaitingObject(self._volume, self._path, self._staged, self._size).place()
        self._may_be_stored = False

    def discard(self) -> None:
        """What resists is thrown away when incoming bodies are settled."""
        self._file.discard()
        if self._may_be_stored:
            try:
                self._volume.store.delete(self._path)
                self._may_be_stored = False
            except ServiceError as error:
                structlog.get_logger("storage").warning(
                    "a staged body is left to be settled", path=self._path, cause=str(error)
                )


@dataclass(frozen=True, slots=True)
class WaitingObject:
    """A whole body below incoming/, of `size` bytes."""

    volume: "RemoteVolume"
    path: str
    staged: StagedName
    size: int

    def exists(self) -> bool:
        return self.volume.store.size(self.path) is not None

    def is_taken(self) -> bool:
        return self.volume.store.size(self.volume.path(self.staged.bucket, self.staged.name)) is not None

    def open(self) -> tuple[RemoteObject, int]:
        return RemoteObject(self.volume, self.path, self.size), self.size

    def place(self) -> None:
        self.volume.place(self.path, self.staged, self.size)

    def discard(self) -> None:
        self.volume.store.delete(self.path)
