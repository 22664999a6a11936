"""One data folder of a node, and the bodies on their way into it.

    DATA_DIR/lock                     held while the node runs: two processes never share a folder
    DATA_DIR/oort-disk.json           whose folder it is (marker.py), so that a disk that is away is noticed
    DATA_DIR/cleared                  orders to clear buckets that are over (cleared.py)
    DATA_DIR/incoming/BUCKET/...      bodies that no catalogue entry has called for yet
    DATA_DIR/buckets/BUCKET/          a restic repository: config, keys/, data/xx/, index/, snapshots/, locks/

Kept true: a file in a bucket's folder is whole, because it came there by a rename of a synced file; what lies in
incoming/ under a name without `.part` is whole and durable too; nothing in a bucket's folder is unlinked but by
`Disks.remove` (disks.py), for the reaper, and `clear`, when the node is no home of the bucket any more.
Everything here blocks, and runs in the node's disk threads.

Crash order of a put: sync the file, rename it from `.part`, sync incoming's folder (the copy is durable now and may be
counted), then the catalogue entry, then the rename into its place. A crash before the entry leaves a file that
incoming.py throws away when its session is over; a crash after it leaves one that incoming.py puts in its place.
So a refused body never was in the bucket's folder, and two puts of one name never unlink each other's file.
One of the 256 folders data/xx/ is made, and its name synced, before the first rename into it.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import structlog

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from services.common.errors import StartError
from services.storage import marker
from services.storage.errors import DiskFull, NameMismatch, Unentered
from services.storage.places import entries, name_at

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_FOLDERS = ("keys", "index", "snapshots", "locks", "data")
_PACK_FOLDER = re.compile("[0-9a-f]{2}")
_PART = ".part"
_log = structlog.get_logger("storage")
NO_SESSION = UUID(int=0)  # of copies fetched by replication: their objects are entered already


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _removable(top: Path) -> Iterator[Path]:
    """The files of a bucket in the order in which they go: what lies there names nothing that has gone."""
    for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY):
        folder = top / kind.value
        for place in entries(folder) if kind is ObjectKind.PACK else [folder]:
            yield from (path for path in entries(place) if name_at(kind, path) is not None)
    yield from (top / name.path for name in (SEAL, CONFIG))


def _make_folder(folder: Path) -> None:
    """Make one folder, 0700, and its name durable. Nothing if it is there."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


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
            sync_folder(self.path.parent)
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
        self._pack_folders: dict[UUID, int] = {}  # of a bucket, a bit for each data/xx/ whose name is on the disk
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
        try:
            self.id, self.is_new = marker.claim(folder, node)
            self._seen = {path.name for path in self.buckets.iterdir()}  # folders of buckets, since it was opened
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        os.close(self._lock)

    @property
    def free_bytes(self) -> int:
        """Free bytes above the low-water mark."""
        return self._room(self._low_water)

    def _room(self, mark: int) -> int:
        return max(0, self._free_bytes(self.folder) - mark)

    @property
    def is_there(self) -> bool:
        """Whether the disk that was opened is still the one behind the folder."""
        return marker.read(self.folder) == (self._node, self.id)

    def has_bucket(self, bucket: UUID) -> bool:
        return (self.buckets / str(bucket)).is_dir()

    def may_hold(self, bucket: UUID) -> bool:
        """Whether the bucket has a folder here, or, if the disk is away, had one when it was there."""
        return str(bucket) in self._seen or self.has_bucket(bucket)

    def make_bucket(self, bucket: UUID) -> None:
        """Make the bucket's folder with all that restic wants to find in one. Nothing if it is complete."""
        top = self.buckets / str(bucket)
        if bucket in self._ready and top.is_dir():
            return
        try:
            _make_folder(top)
            for folder in _FOLDERS:
                (top / folder).mkdir(0o700, exist_ok=True)
            # An earlier run of this node may have made them and not come to the sync.
            there = [path.name for path in (top / "data").iterdir()]
            sync_folder(top / "data")
            sync_folder(top)
        except OSError as error:
            raise self.explain(error) from error
        self._seen.add(top.name)
        self._pack_folders[bucket] = sum(1 << int(name, 16) for name in there if _PACK_FOLDER.fullmatch(name))
        self._ready.add(bucket)

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> StagedFile:
        """Begin to take a body of `size` bytes. Raises DiskFull before the first of them.

        What room is made by (`frees`) may take half of what lies below the low-water mark. In the place of the `first`
        of its name no other file may lie: Unentered.
        """
        if first:
            self._require_free(staged, size)
        if size > self._room(self._low_water // 2 if frees else self._low_water):
            raise DiskFull(node=self._node)
        self.make_bucket(staged.bucket)
        return StagedFile(self, staged, size)

    def _require_free(self, staged: StagedName, size: int) -> None:
        """The catalogue knows nothing in its place: what lies there all the same may be all that opens a vault."""
        place = self.path(staged.bucket, staged.name)
        try:
            if place.stat().st_size == size and sha256(place.read_bytes()).digest() == staged.sha256:
                return
        except FileNotFoundError:
            return
        except OSError as error:  # it is there
            raise Unentered(node=self._node) from error
        raise Unentered(node=self._node)

    def place(self, path: Path, bucket: UUID, name: ObjectName) -> None:
        """Rename an incoming file into its place, and make that durable; nothing if somebody has placed it.

        Makes the bucket's folders again where they have gone. Raises DiskFull, OSError.
        """
        target = self.path(bucket, name)
        try:
            try:
                self._move(path, bucket, target)
            except FileNotFoundError:
                if path.exists():
                    self._ready.discard(bucket)
                    self.make_bucket(bucket)
                    self._move(path, bucket, target)
                elif not target.exists():
                    raise
            sync_folder(target.parent)
        except OSError as error:
            raise self.explain(error) from error

    def _move(self, path: Path, bucket: UUID, target: Path) -> None:
        """Rename a file to where it belongs, for a pack after its data/xx/ is made and that name synced."""
        if _PACK_FOLDER.fullmatch(target.parent.name):
            folder = target.parent
            bit = 1 << int(folder.name, 16)
            if not self._pack_folders.get(bucket, 0) & bit:
                folder.mkdir(0o700, exist_ok=True)
                # Also if it was there: another thread may have made it, and not synced it yet.
                sync_folder(folder.parent)
                # A bit that is lost to another thread's costs one more sync.
                self._pack_folders[bucket] = self._pack_folders.get(bucket, 0) | bit
        path.rename(target)

    def path(self, bucket: UUID, name: ObjectName) -> Path:
        return self.buckets / str(bucket) / name.path

    def staged(self, bucket: UUID | None = None) -> Iterator[tuple[Path, StagedName]]:
        """Whole incoming files, of one bucket or of all. What has a foreign name is left alone."""
        for path, known in self._incoming(bucket):
            if not path.name.endswith(_PART):
                yield path, known

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        """Whose puts left incoming files of the bucket, begun or whole. Raises OSError."""
        return {staged.session for _, staged in self._arriving(bucket)}

    def clear(self, bucket: UUID, over: Container[UUID]) -> bool:
        """Remove all files of the bucket, but incoming ones of sessions that are not `over`; False if there are such.

        What has a foreign name stays, and its folder. A crash leaves fewer files. Raises OSError.
        """
        arriving = False
        for path, staged in self._arriving(bucket):
            if staged.session in over:
                path.unlink(missing_ok=True)
            else:
                arriving = True
        top = self.buckets / str(bucket)
        for path in _removable(top):
            path.unlink(missing_ok=True)
        self._ready.discard(bucket)
        self._pack_folders.pop(bucket, None)
        parts = [top / folder for folder in _FOLDERS]
        for folder in (self.incoming / str(bucket), *entries(top / ObjectKind.PACK.value), *parts, top):
            with contextlib.suppress(OSError):  # it is gone, or has something foreign in it
                folder.rmdir()
        sync_folder(self.buckets)
        if top.exists():
            _log.warning("foreign files stay in the folder of a bucket", path=str(top))
        else:
            self._seen.discard(top.name)
        return not arriving

    def _arriving(self, bucket: UUID) -> Iterator[tuple[Path, StagedName]]:
        for path in entries(self.incoming / str(bucket)):
            known = StagedName.parse(bucket, path.name)
            if known is not None:
                yield path, known

    def drop_parts(self) -> int:
        """Remove what an earlier run of this node had only begun to take. Answers how many files."""
        dropped = 0
        for path, _ in self._incoming():
            if path.name.endswith(_PART):
                try:
                    path.unlink(missing_ok=True)
                    dropped += 1
                except OSError as error:
                    _log.error("an incoming file cannot be removed", path=str(path), cause=str(error))
        return dropped

    def _incoming(self, bucket: UUID | None = None) -> Iterator[tuple[Path, StagedName]]:
        folders = [self.incoming / str(bucket)] if bucket else self._entries(self.incoming)
        for folder in folders:
            try:
                owner = UUID(folder.name)
            except ValueError:
                continue
            for path in self._entries(folder):
                known = StagedName.parse(owner, path.name)
                if known is not None:
                    yield path, known

    def _entries(self, folder: Path) -> list[Path]:
        """What lies in a folder; nothing, with a line in the log, if it cannot be read."""
        try:
            return list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            _log.error("a folder of incoming files cannot be read", path=str(folder), cause=str(error))
            return []

    def explain(self, error: OSError) -> Exception:
        """DiskFull where the error means that; the error itself otherwise."""
        return DiskFull(node=self._node) if error.errno in _FULL else error
