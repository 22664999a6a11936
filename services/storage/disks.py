"""All data folders of a node: on which of them a bucket lies, and what of its objects is there.

Kept true: a bucket begins on one disk, chosen when all are there; while one is away on which it may lie, nobody takes
what is not found for missing, and nothing of the bucket is begun elsewhere, nor called removed.
Everything here blocks, and runs in the node's disk threads.
"""

import contextlib
import threading
from collections.abc import Container, Iterator, Sequence
from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.errors import Unavailable
from services.storage import cleared
from services.storage.disk import Disk, StagedFile, StagedName, sync_folder
from services.storage.in_use import BucketsInUse
from services.storage.reading import OpenObject, open_file, size_of

_log = structlog.get_logger("storage")


class Disks:
    """All data folders of a node. A bucket lies on one of them."""

    def __init__(self, disks: Sequence[Disk], node: str) -> None:
        self._disks = disks
        self._node = node
        self._choosing = threading.Lock()
        self.in_use = BucketsInUse()  # for the event loop, where nothing blocks

    def __iter__(self) -> Iterator[Disk]:
        return iter(self._disks)

    def close(self) -> None:
        for disk in self._disks:
            disk.close()

    @property
    def free_bytes(self) -> int:
        """What the roomiest disk can still take."""
        return max(disk.free_bytes for disk in self._disks)

    @property
    def all_there(self) -> bool:
        """Whether no disk is away: what is found nowhere then lies nowhere."""
        return all(disk.is_there for disk in self._disks)

    def buckets(self) -> set[UUID]:
        """The buckets that have folders here, whatever is in them. Raises OSError."""
        found = set()
        for disk in self._disks:
            for path in disk.buckets.iterdir():
                with contextlib.suppress(ValueError):  # not ours
                    found.add(UUID(path.name))
        return found

    def holding(self, bucket: UUID) -> list[Disk]:
        """The disks with a folder of the bucket: one, unless a disk was away when the bucket was written to."""
        return [disk for disk in self._disks if disk.has_bucket(bucket)]

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> StagedFile:
        """Begin to take a body, as Disk.stage; a bucket's first one chooses the roomiest disk.

        Raises Unavailable when the bucket may lie on a disk that is away, DiskFull, Unentered.
        """
        with self._choosing:
            disk = next(iter(self.holding(staged.bucket)), None)
            if disk is None:
                self._require_all()
                disk = max(self._disks, key=lambda candidate: candidate.free_bytes)
                disk.make_bucket(staged.bucket)
        return disk.stage(staged, size, frees=frees, first=first)

    def open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> OpenObject | None:
        """Open an object; None if it is not here in the size that the catalogue says, or, if `cut`, not so much of it.

        Raises Unavailable when nothing of the bucket is here, which says that a disk is away and nothing of the object.
        """
        disks = self.holding(bucket)
        if not disks:
            raise Unavailable(what=f"The disk of bucket {bucket} on node {self._node}")
        for disk in disks:
            opened = open_file(disk.path(bucket, name), size, cut=cut)
            if opened is not None:
                return opened
        return None

    def lacking(self, bucket: UUID, wanted: Sequence[tuple[ObjectName, int]]) -> set[ObjectName]:
        """Those of `wanted`, names with their sizes, that do not lie here in that size."""
        disks = self.holding(bucket)
        return {name for name, size in wanted if not any(size_of(disk.path(bucket, name)) == size for disk in disks)}

    def remove(self, bucket: UUID, names: Sequence[ObjectName]) -> set[ObjectName]:
        """Unlink objects durably. Answers those of which nothing is left here; what resists is logged.

        Raises Unavailable when a disk of the bucket is away, on which they may lie; OSError when a sync fails.
        """
        gone = set(names)
        self._require_those_of(bucket)
        for disk in self.holding(bucket):
            folders = set()
            for name in names:
                path = disk.path(bucket, name)
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
        self._require_those_of(bucket)  # else what was looked at may have been the folder below a disk that has gone
        return gone

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        """As Disk.sessions_of, of all disks."""
        return set().union(*(disk.sessions_of(bucket) for disk in self._disks))

    def clear(self, bucket: UUID, over: Container[UUID], order: UUID) -> bool:
        """As Disk.clear, on all disks; nothing if the `order` was carried out before. Raises Unavailable, OSError."""
        self._require_all()
        was_done = self.is_noted(order)
        done = [was_done or disk.clear(bucket, over) for disk in self._disks]
        self._require_all()
        if all(done):
            self.note(order)
        return all(done)

    def is_noted(self, order: UUID) -> bool:
        """Whether an order to clear a bucket is over. Raises OSError."""
        return any(cleared.is_noted(disk.folder, order) for disk in self._disks)

    def note(self, order: UUID) -> None:
        """Keep for good that an order to clear a bucket is over. Raises OSError."""
        for disk in self._disks:
            if not cleared.is_noted(disk.folder, order):
                cleared.note(disk.folder, order)

    def _require_those_of(self, bucket: UUID) -> None:
        if any(not disk.is_there for disk in self._disks if disk.may_hold(bucket)):
            raise Unavailable(what=f"A disk of node {self._node}")

    def _require_all(self) -> None:
        if not self.all_there:
            raise Unavailable(what=f"A disk of node {self._node}")

    def hash(self, bucket: UUID, name: ObjectName, size: int) -> bytes | None:
        """The SHA-256 of the object's file; None if there is no whole one, or it cannot be read."""
        if not self.holding(bucket):
            return None
        opened = self.open(bucket, name, size)
        if opened is None:
            return None
        try:
            return opened.hash(size)
        except OSError as error:
            _log.error("a copy cannot be read", bucket=str(bucket), name=str(name), cause=str(error))
            return None
        finally:
            opened.close()
