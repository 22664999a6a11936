"""One data folder of a node, and the bodies on their way into it.

    DATA_DIR/lock                     held while the node runs, by its workers together: two nodes never share one
    DATA_DIR/oort-disk.json           whose folder it is (marker.py), so that a disk that is away is noticed
    DATA_DIR/disks                    all disks of the node, if there are others (mounted.py)
    DATA_DIR/cleared                  orders to clear buckets that are over (cleared.py)
    DATA_DIR/leaving/BUCKET           buckets that are to leave for another disk of the node (leaving.py)
    DATA_DIR/incoming/BUCKET/...      bodies that no catalogue entry has called for yet
    DATA_DIR/buckets/BUCKET/          a restic repository: config, keys/, data/xx/, index/, snapshots/, locks/

Kept true: a file in a bucket's folder is whole, because it came there by a rename of a synced file; what lies in
incoming/ under a name without `.part` is whole and durable too; nothing in a bucket's folder is unlinked but by
`Disks.remove` (disks.py), for the reaper, `clear`, when the node is no home of the bucket any more, and `Places`
(places.py), when it lies on another disk of the node.
Everything here blocks, and runs in the node's disk threads.

Crash order of a put: sync the file, rename it from `.part`, sync incoming's folder (the copy is durable now and may be
counted), then the catalogue entry, then the rename into its place. A crash before the entry leaves a file that
incoming.py throws away when its session is over; a crash after it leaves one that incoming.py puts in its place.
So a refused body never was in the bucket's folder, and two puts of one name never unlink each other's file.
One of the 256 folders data/xx/ is made, and its name synced, before the first rename into it (made.py).
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path
from uuid import UUID

import structlog

from domain.names import ObjectKind, ObjectName
from services.common.errors import StartError, Unavailable
from services.common.worker import Worker
from services.storage.errors import DiskFull, Unentered
from services.storage.store.nodes import NodeDisk
from services.storage.store.rescans import FoundFile
from services.storage.volumes import bucket_folder, cleared, incoming_folder, marker
from services.storage.volumes.begun import Begun
from services.storage.volumes.copied import CopiedFile
from services.storage.volumes.folders import free_bytes, make_folder, sync_folder, take_lock
from services.storage.volumes.leaving import Leaving
from services.storage.volumes.made import MadeFolders
from services.storage.volumes.reading import OpenFile, open_file, size_of
from services.storage.volumes.staging import PART, ArrivingFile, StagedName

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_log = structlog.get_logger("storage")


class StagedFile:
    """One body on its way in. Used by one put, one call after the other."""

    def __init__(self, disk: "Disk", staged: StagedName, size: int) -> None:
        self.disk = disk
        self.staged = staged
        folder = disk.incoming / str(staged.bucket)
        self.path = folder / staged.file_name(f"{disk.worker.mark}{secrets.token_hex(4)}")
        begin = partial(ArrivingFile, self.path.with_name(self.path.name + PART), staged, size, disk.write)
        try:
            make_folder(folder)
            try:
                self._part = begin()
            except FileNotFoundError:  # nothing lay in it, and it was dropped since
                make_folder(folder)
                self._part = begin()
        except OSError as error:
            raise disk.explain(error) from error

    def write(self, frame: bytes | memoryview) -> None:
        try:
            self._part.write(frame)
        except OSError as error:
            raise self.disk.explain(error) from error

    def date(self, modified_ns: int) -> None:
        """As ArrivingFile.date, once all is written."""
        try:
            self._part.date(modified_ns)
        except OSError as error:
            raise self.disk.explain(error) from error

    def finish(self) -> None:
        self._part.verify()
        try:
            self._part.sync()
            if self.staged.name.kind is ObjectKind.PACK:
                self._part.let_go()
            self._part.close()
            self._part.path.rename(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self.disk.explain(error) from error

    def place(self) -> bool:
        """As Disk.place."""
        return self.disk.place(self.path, self.staged.bucket, self.staged.name)

    def discard(self) -> None:
        self._part.discard()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A whole incoming file."""

    disk: "Disk"
    path: Path
    staged: StagedName

    def exists(self) -> bool:
        return self.path.exists()

    def is_taken(self) -> bool:
        return self.disk.has(self.staged.bucket, self.staged.name)

    def open(self) -> tuple[OpenFile, int] | None:
        size = size_of(self.path)
        opened = open_file(self.path, size) if size is not None else None
        return None if size is None or opened is None else (opened, size)

    def place(self) -> bool:
        """As Disk.place."""
        return self.disk.place(self.path, self.staged.bucket, self.staged.name)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


class Disk:
    """One data folder. `free_bytes` and `write` are the system's, injected for tests of full disks."""

    def __init__(
        self,
        folder: Path,
        node: str,
        low_water_bytes: int,
        worker: Worker | None = None,
        lent: Sequence[int] | None = None,
        *,
        free_bytes: Callable[[Path], int] = free_bytes,
        write: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        """Open the folder, making it if it is missing. Raises StartError when another node has it.

        The first worker locks it for all; the others open no other disk than it has, with what it has `lent`.
        """
        self.worker = worker or Worker()
        self.folder = folder
        self.incoming, self.buckets = folder / "incoming", folder / "buckets"
        self.write = write
        self._node = node
        self._low_water, self._free_bytes = low_water_bytes, free_bytes
        self._made, self.leaving = MadeFolders(self.buckets, self.worker), Leaving(folder)
        self._lock, self._begun = self._opened() if lent is None else (lent[0], Begun(lent[1]))
        self.id = self._begun.disk

    @property
    def lent(self) -> tuple[int, int]:
        """The descriptors that a further worker opens the disk by."""
        return self._lock, self._begun.descriptor

    def _opened(self) -> tuple[int, Begun]:
        with contextlib.ExitStack() as undo:
            try:
                self.folder.mkdir(0o700, parents=True, exist_ok=True)
                for part in (self.incoming, self.buckets):
                    make_folder(part)
                lock = take_lock(self.folder / marker.LOCK)
                undo.callback(os.close, lock)
                begun = Begun.make(marker.claim(self.folder, self._node)[0], self.held())
            except BlockingIOError:
                raise StartError(f"OORT_DATA_DIRS: another storage node has {self.folder} open") from None
            except OSError as error:
                raise StartError(f"OORT_DATA_DIRS: cannot use {self.folder}: {error.strerror}") from error
            undo.pop_all()
        return lock, begun

    def close(self) -> None:
        self._begun.close()
        os.close(self._lock)

    @property
    def free_bytes(self) -> int:
        """Free bytes above the low-water mark; 0 where there is no folder that could be asked."""
        return self._room(self._low_water)

    def _room(self, mark: int) -> int:
        try:
            return max(0, self._free_bytes(self.folder) - mark)
        except OSError:
            if self.is_there:
                raise
            return 0  # away with its folder

    @property
    def is_there(self) -> bool:
        """Whether the disk that was opened is still the one behind the folder."""
        return marker.read(self.folder) == (self._node, self.id)

    def state(self) -> NodeDisk:
        there = self.is_there
        place = os.fsencode(self.folder.absolute()).decode(errors="replace")  # as the catalogue takes it
        return NodeDisk(str(self.id), "disk", place, self.free_bytes if there else 0, there)

    def held(self) -> set[UUID]:
        found = set()
        for path in self.buckets.iterdir():
            with contextlib.suppress(ValueError):  # not ours
                found.add(UUID(path.name))
        return found

    def has_bucket(self, bucket: UUID) -> bool:
        try:
            is_here = (self.buckets / str(bucket)).is_dir()
        except OSError:  # so answers what is mounted still and was pulled
            if self.is_there:
                raise
            return False
        if is_here:
            self._begun.add(bucket)  # it may be made by hand, for a worker to enter what lies there
        return is_here

    def may_hold(self, bucket: UUID) -> bool:
        """Whether the bucket has a folder here, or, if the disk is away, had one when it was there."""
        if (is_here := self.has_bucket(bucket)) or bucket not in self._begun:
            return is_here
        # There before the look and after it, or it says nothing: it may have left the disk just now.
        return not self.is_there or self.has_bucket(bucket) or not self.is_there

    def make_bucket(self, bucket: UUID) -> None:
        """Make the bucket's folder with all that restic wants to find in one. Nothing if it is complete."""
        try:
            self._begun.add(bucket)  # before: all are to know it of a disk that goes away in between
            self._made.make(bucket)
            self._begun.add(bucket)  # once more: it may have left the disk just then
        except OSError as error:
            raise self.explain(error) from error

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> StagedFile:
        """Begin to take a body of `size` bytes. Raises DiskFull before the first of them, Unavailable when away.

        What room is made by (`frees`) may take half of what lies below the low-water mark. In the place of the `first`
        of its name no other file may lie: Unentered.
        """
        if first:
            self._require_free(staged, size)
        if size > self._room(self._low_water // 2 if frees else self._low_water):
            if not self.is_there:  # it has gone since it was chosen
                raise Unavailable(what=f"A disk of node {self._node}")
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

    def place(self, path: Path, bucket: UUID, name: ObjectName) -> bool:
        """Rename an incoming file into its place, and make that durable.

        False if it is gone, and something lies in the place: somebody has placed it, or that is another one.
        Makes the bucket's folders again where they have gone. Raises DiskFull, OSError.
        """
        target = self.path(bucket, name)
        try:
            try:
                drops = self._move(path, bucket, target)
            except FileNotFoundError:
                if path.exists():
                    self._begun.add(bucket)  # of an earlier run it may be the first of its bucket
                    self._made.make_again(bucket)
                    drops = self._move(path, bucket, target)
                elif target.exists():
                    sync_folder(target.parent)
                    self._made.has_come(bucket)
                    return False
                else:
                    raise
            sync_folder(target.parent)
            self._made.has_come(bucket, drops)
        except OSError as error:
            raise self.explain(error) from error
        return True

    def has_whole(self, bucket: UUID, name: ObjectName, content: bytes) -> bool:
        """Whether the object's file has this SHA-256. Reads it."""
        with contextlib.suppress(OSError), self.path(bucket, name).open("rb") as file:
            return file_digest(file, "sha256").digest() == content
        return False

    def _move(self, path: Path, bucket: UUID, target: Path) -> int:
        """Answers as MadeFolders.make_place."""
        drops = self._made.make_place(bucket, target)
        path.rename(target)
        return drops

    def path(self, bucket: UUID, name: ObjectName) -> Path:
        return self.buckets / str(bucket) / name.path

    def has(self, bucket: UUID, name: ObjectName) -> bool:
        """Whether something lies in the object's place, whole or not, or so that it cannot be looked at.

        Nothing does where the disk is away.
        """
        try:
            self.path(bucket, name).lstat()
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR) and self.is_there
        return True

    def open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> OpenFile | None:
        return open_file(self.path(bucket, name), size, cut=cut)

    def lacking(self, bucket: UUID, wanted: Sequence[tuple[ObjectName, int]]) -> set[ObjectName]:
        return {name for name, size in wanted if size_of(self.path(bucket, name)) != size}

    def remove(self, bucket: UUID, names: Sequence[ObjectName]) -> set[ObjectName]:
        """Unlink objects durably. Answers those of which nothing is left here. Raises OSError when a sync fails."""
        gone = set(names)
        folders = set()
        for name in names:
            path = self.path(bucket, name)
            # Also if nothing is found: a crash may have come between an earlier unlinking and its sync.
            folders.add(path.parent)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                gone.discard(name)
                _log.error("a copy cannot be removed", path=str(path), cause=str(error))
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # a pack folder that was never made here
                sync_folder(folder)
        return gone

    def root_files(self, bucket: UUID) -> list[FoundFile]:
        return bucket_folder.root_files(self.buckets / str(bucket))

    def files(self, bucket: UUID) -> Iterator[FoundFile | str]:
        return bucket_folder.files(self.buckets / str(bucket))

    def of_kind(self, bucket: UUID, kind: ObjectKind) -> Iterator[FoundFile | str]:
        return bucket_folder.of_kind(self.buckets / str(bucket), kind)

    def copied(self, bucket: UUID, name: ObjectName) -> CopiedFile | None:
        self.has_bucket(bucket)  # notes a folder that was made by hand: what lies there is away with the disk
        return CopiedFile.open(self.buckets / str(bucket), self.path(bucket, name))

    def staged(self, bucket: UUID | None = None) -> Iterator[WaitingFile]:
        for path, known in incoming_folder.readable(self.incoming, bucket):
            if not path.name.endswith(PART):
                yield WaitingFile(self, path, known)

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        return {staged.session for _, staged in incoming_folder.of_bucket(self.incoming, bucket)}

    def clear(self, bucket: UUID, over: Container[UUID]) -> bool:
        """Foreign files keep their folder. A crash leaves fewer files."""
        arriving = False
        for path, staged in incoming_folder.of_bucket(self.incoming, bucket):
            if staged.session in over:
                path.unlink(missing_ok=True)
            else:
                arriving = True
        top = self.buckets / str(bucket)
        for path in bucket_folder.removable(top):
            path.unlink(missing_ok=True)
        self.leaving.forget(bucket)
        self.drop_folders(bucket)
        return not arriving

    def drop_folders(self, bucket: UUID) -> bool:
        """Remove the folders of a bucket of which nothing lies here. False if something does. Raises OSError."""
        if not self._made.drop(bucket, self.incoming / str(bucket)):
            _log.warning("foreign files stay in the folder of a bucket", path=str(self.buckets / str(bucket)))
            return False
        if self.worker.count == 1:
            self._begun.forget(bucket)
        return True

    def is_noted(self, order: UUID) -> bool:
        return cleared.is_noted(self.folder, order)

    def note(self, order: UUID) -> None:
        cleared.note(self.folder, order)

    def drop_parts(self) -> int:
        """As Volume.drop_parts."""
        return incoming_folder.drop_parts(self.incoming, self.worker.mark) if self.is_there else 0

    def explain(self, error: OSError) -> Exception:
        """DiskFull where the error means that; the error itself otherwise."""
        return DiskFull(node=self._node) if error.errno in _FULL else error
