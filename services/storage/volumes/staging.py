"""Bodies on their way in: what the name of a staged one says, and the file into which one is written and hashed."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from services.storage.errors import NameMismatch

PART = ".part"
NO_SESSION = UUID(int=0)  # of copies fetched by replication: their objects are entered already


@dataclass(frozen=True, slots=True)
class StagedName:
    """What the name of an incoming file says: enough to settle it after a crash."""

    bucket: UUID
    session: UUID
    name: ObjectName
    sha256: bytes

    def file_name(self, nonce: str) -> str:
        return f"{self.session}.{self.name.kind.value}.{self.sha256.hex()}.{nonce}"

    @classmethod
    def parse(cls, bucket: UUID, file_name: str) -> "StagedName | None":
        """None for a file that is not ours."""
        parts = file_name.split(".")
        try:
            session, kind, digest, _nonce = UUID(parts[0]), ObjectKind(parts[1]), bytes.fromhex(parts[2]), parts[3]
            return cls(bucket, session, ObjectName(kind, "" if kind.is_root_file else digest.hex()), digest)
        except (ValueError, IndexError):
            return None


def nonce_of(file_name: str) -> str:
    """What a name of an incoming file of ours ends with, to differ from all others."""
    return file_name.split(".")[3]


class ArrivingFile:
    """A new file, written and hashed as a body arrives. Each step raises OSError."""

    def __init__(
        self, path: Path, staged: StagedName, size: int, write: Callable[[int, memoryview], int] = os.write
    ) -> None:
        self.path = path
        self._staged = staged
        self._size = size
        self._write = write
        self._arrived = 0
        self._hash = sha256()
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, frame: bytes | memoryview) -> None:
        """Hash and write. Raises NameMismatch for more bytes than announced."""
        self._arrived += len(frame)
        if self._arrived > self._size:
            raise self._mismatch(f"more than the announced {self._size} bytes came")
        self._hash.update(frame)
        rest = memoryview(frame)
        while rest:
            rest = rest[self._write(self._handle, rest) :]

    def verify(self) -> None:
        """Whether the whole body has come. Raises NameMismatch."""
        if self._arrived != self._size:
            raise self._mismatch(f"{self._arrived} of the announced {self._size} bytes came")
        if self._hash.digest() != self._staged.sha256:
            raise self._mismatch("its content has another SHA-256")

    def date(self, modified_ns: int) -> None:
        """Have it say, once all is written, that this was at another time, in nanoseconds since 1970."""
        os.utime(self._handle, ns=(modified_ns, modified_ns))

    def sync(self) -> None:
        os.fsync(self._handle)

    def let_go(self) -> None:
        """Have the system drop from memory what was synced: the next bodies take the same pages."""
        with suppress(OSError):  # not every file system takes the advice, and the body is safe without
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Nothing if it is closed."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def _mismatch(self, detail: str) -> NameMismatch:
        return NameMismatch(name=self._staged.name, detail=detail)
