"""Objects on the disks of one node.

    DATA_DIR/lock                     held while the node runs: two processes never share a folder
    DATA_DIR/incoming/BUCKET/...      bodies that no catalogue entry has called for yet
    DATA_DIR/buckets/BUCKET/          a restic repository: config, keys/, data/00..ff/, index/, snapshots/, locks/

Kept true: a file in a bucket's folder is whole, because it came there by a rename of a synced file; what lies in
incoming/ under a name without `.part` is whole and durable too; nothing in a bucket's folder is ever unlinked here.
Everything here blocks, and runs in the node's disk threads.

Crash order of a put: sync the file, rename it from `.part`, sync incoming's folder (the copy is durable now and may be
counted), then the catalogue entry, then the rename into its place. A crash before the entry leaves a file that
incoming.py throws away when its session is over; a crash after it leaves one that incoming.py puts in its place.
So a refused body never was in the bucket's folder, and two puts of one name never unlink each other's file.
"""

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from services.common.errors import StartError
from services.storage.errors import DiskFull, NameMismatch

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_FOLDERS = ("keys", "index", "snapshots", "locks", "data")
_PART = ".part"
NO_SESSION = UUID(int=0)  # of copies fetched by replication: their objects are entered already


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make one folder, 0700, and its name durable. Nothing if it is there."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return
    _sync_folder(folder.parent)


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


class StagedFile:
    """One body on its way in. Used by one put, one call after the other."""

    def __init__(self, disk: "Disk", staged: StagedName, size: int) -> None:
        self._disk = disk
        self._staged = staged
        self._size = size
        self._arrived = 0
        self._hash = sha256()
        folder = disk.incoming / str(staged.bucket)
        self.path = folder / staged.file_name(secrets.token_hex(4))
        self._part = self.path.with_name(self.path.name + _PART)
        try:
            _make_folder(folder)
            self._handle = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk.explain(error) from error

    def write(self, frame: bytes | memoryview) -> None:
        """Hash and write. Raises NameMismatch for more bytes than announced, DiskFull."""
        self._arrived += len(frame)
        if self._arrived > self._size:
            raise self._mismatch(f"more than the announced {self._size} bytes came")
        self._hash.update(frame)
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[self._disk.write(self._handle, rest) :]
        except OSError as error:
            raise self._disk.explain(error) from error

    def finish(self) -> None:
        """Verify the whole body and make it durable. Raises NameMismatch, DiskFull."""
        if self._arrived != self._size:
            raise self._mismatch(f"{self._arrived} of the announced {self._size} bytes came")
        if self._hash.digest() != self._staged.sha256:
            raise self._mismatch("its content has another SHA-256")
        try:
            os.fsync(self._handle)
            self._close()
            self._part.rename(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._disk.explain(error) from error

    def place(self) -> None:
        """Move the finished file into its place; its object is in the catalogue."""
        self._disk.place(self.path, self._staged.bucket, self._staged.name)

    def discard(self) -> None:
        """Throw it away, in whatever state it is."""
        self._close()
        self._part.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)

    def _mismatch(self, detail: str) -> NameMismatch:
        return NameMismatch(name=self._staged.name, detail=detail)


class Disk:
    """One data folder. `free_bytes` and `write` are the system's, injected for tests of full disks."""

    def __init__(
        self,
        folder: Path,
        node: str,
        low_water_bytes: int,
        *,
        free_bytes: Callable[[Path], int] = _free_bytes,
        write: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        """Open the folder, making it if it is missing. Raises StartError when another process has it."""
        self.folder = folder
        self.incoming = folder / "incoming"
        self.buckets = folder / "buckets"
        self.write = write
        self._node = node
        self._low_water = low_water_bytes
        self._free_bytes = free_bytes
        self._ready: set[UUID] = set()
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            for part in (self.incoming, self.buckets):
                _make_folder(part)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"OORT_DATA_DIRS: cannot use {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartError(f"OORT_DATA_DIRS: another storage node has {folder} open") from None

    def close(self) -> None:
        os.close(self._lock)

    @property
    def free_bytes(self) -> int:
        """Free bytes above the low-water mark."""
        return max(0, self._free_bytes(self.folder) - self._low_water)

    def has_bucket(self, bucket: UUID) -> bool:
        return bucket in self._ready or (self.buckets / str(bucket)).is_dir()

    def make_bucket(self, bucket: UUID) -> None:
        """Make the bucket's folder with all that restic wants to find in one. Nothing if it is complete."""
        if bucket in self._ready:
            return
        top = self.buckets / str(bucket)
        try:
            _make_folder(top)
            for folder in _FOLDERS:
                (top / folder).mkdir(0o700, exist_ok=True)
            for number in range(256):
                (top / "data" / f"{number:02x}").mkdir(0o700, exist_ok=True)
            _sync_folder(top / "data")
            _sync_folder(top)
        except OSError as error:
            raise self.explain(error) from error
        self._ready.add(bucket)

    def stage(self, staged: StagedName, size: int) -> StagedFile:
        """Begin to take a body of `size` bytes. Raises DiskFull before the first of them."""
        if size > self.free_bytes:
            raise DiskFull(node=self._node)
        self.make_bucket(staged.bucket)
        return StagedFile(self, staged, size)

    def place(self, path: Path, bucket: UUID, name: ObjectName) -> None:
        """Rename an incoming file into its place, and make that durable; nothing if somebody has placed it."""
        target = self.path(bucket, name)
        try:
            path.rename(target)
        except FileNotFoundError:
            if not target.exists():
                raise
        _sync_folder(target.parent)

    def path(self, bucket: UUID, name: ObjectName) -> Path:
        return self.buckets / str(bucket) / name.path

    def staged(self, bucket: UUID | None = None) -> Iterator[tuple[Path, StagedName]]:
        """Whole incoming files, of one bucket or of all."""
        folders = [self.incoming / str(bucket)] if bucket else list(self.incoming.iterdir())
        for folder in folders:
            if not folder.is_dir():
                continue
            owner = UUID(folder.name)
            for path in folder.iterdir():
                known = None if path.name.endswith(_PART) else StagedName.parse(owner, path.name)
                if known is not None:
                    yield path, known

    def drop_parts(self) -> int:
        """Remove what an earlier run of this node had only begun to take. Answers how many files."""
        parts = list(self.incoming.glob(f"*/*{_PART}"))
        for path in parts:
            path.unlink(missing_ok=True)
        return len(parts)

    def explain(self, error: OSError) -> Exception:
        """DiskFull where the error means that; the error itself otherwise."""
        return DiskFull(node=self._node) if error.errno in _FULL else error


class Disks:
    """All data folders of a node. A bucket lies on one of them."""

    def __init__(self, disks: Sequence[Disk]) -> None:
        self._disks = disks
        self._choosing = threading.Lock()

    def __iter__(self) -> Iterator[Disk]:
        return iter(self._disks)

    def close(self) -> None:
        for disk in self._disks:
            disk.close()

    @property
    def free_bytes(self) -> int:
        """What the roomiest disk can still take."""
        return max(disk.free_bytes for disk in self._disks)

    def find(self, bucket: UUID) -> Disk | None:
        """The disk that the bucket lies on, if it lies on this node."""
        return next((disk for disk in self._disks if disk.has_bucket(bucket)), None)

    def stage(self, staged: StagedName, size: int) -> StagedFile:
        """Begin to take a body; a bucket's first one chooses the roomiest disk."""
        with self._choosing:
            disk = self.find(staged.bucket)
            if disk is None:
                disk = max(self._disks, key=lambda candidate: candidate.free_bytes)
                disk.make_bucket(staged.bucket)
        return disk.stage(staged, size)

    def open(self, bucket: UUID, name: ObjectName, size: int) -> "OpenObject | None":
        """Open an object; None if it is not here in the size that the catalogue says."""
        disk = self.find(bucket)
        if disk is None:
            return None
        try:
            handle = os.open(disk.path(bucket, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(handle).st_size != size:
            os.close(handle)
            return None
        return OpenObject(handle)


class OpenObject:
    """An open file of an object: it stays readable whatever happens to its name. Close it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`; fewer than `length` only if the file was cut since it was opened."""
        return os.pread(self._handle, length, offset)

    def close(self) -> None:
        os.close(self._handle)
