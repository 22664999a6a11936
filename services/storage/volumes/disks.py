"""All volumes of a node, which are disks or stores: on which a bucket lies, and what of its objects is there.

Kept true: a bucket begins on one disk, chosen when all are there; while one is away on which it may lie, nobody takes
what is not found for missing, and nothing of the bucket is begun elsewhere, nor called removed. A bucket on a disk that
has no room goes on on others (places.py), and may be moved there (moves.py): who finds nothing looks once more.
Everything here blocks, and runs in the node's disk threads.
"""

from collections.abc import Container, Iterator, Sequence
from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.errors import Unavailable
from services.common.worker import ByteLocks, InstanceLock
from services.storage.store.nodes import NodeDisk
from services.storage.volumes.disk import Disk, StagedFile, WaitingFile
from services.storage.volumes.in_use import BucketsInUse
from services.storage.volumes.places import CHOOSING, Places
from services.storage.volumes.staging import StagedName
from services.storage.volumes.volume import OpenObject, StagedBody, Volume, WaitingBody, hash_of

_log = structlog.get_logger("storage")


class Disks:
    """All volumes of a node. A bucket lies on one of them, or on several disks."""

    def __init__(self, disks: Sequence[Volume], node: str, locks: ByteLocks | None = None) -> None:
        """`locks` where the node has more workers than this one."""
        self._disks = disks
        self._node = node
        self.places = Places([disk for disk in disks if isinstance(disk, Disk)], locks)
        self._looks = 2 if len(self.places.disks) > 1 else 1
        self._choosing = InstanceLock(locks, CHOOSING)
        self.in_use = BucketsInUse(locks)  # for the event loop, where nothing blocks

    def __iter__(self) -> Iterator[Volume]:
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

    def states(self) -> list[NodeDisk]:
        """Of each, in the order in which they were given."""
        return [disk.state() for disk in self._disks]

    def buckets(self) -> set[UUID]:
        """The buckets that have folders here, whatever is in them. Raises OSError."""
        return {bucket for disk in self._disks for bucket in disk.held()}

    def holding(self, bucket: UUID) -> list[Volume]:
        """The disks with a folder of the bucket."""
        return [disk for disk in self._disks if disk.has_bucket(bucket)]

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> StagedBody:
        """Begin to take a body, as Volume.stage; a bucket's first one chooses the roomiest disk.

        Raises Unavailable when the bucket may lie on a disk that is away, DiskFull, Unentered.
        """
        if staged.name.kind.is_root_file:
            self._require_those_of(staged.bucket)  # one that comes back with another one would hide this one
        takers: Sequence[Volume] = self.places.taking(staged.bucket, staged.name, size, first=first)
        for disk in takers[:-1]:
            try:
                return disk.stage(staged, size, frees=frees, first=first)
            except OSError as error:  # it is read-only, say
                _log.error("a disk takes nothing", bucket=str(staged.bucket), cause=str(error))
        last = takers[-1] if takers else self._holder(staged.bucket) or self._begun(staged.bucket)
        return last.stage(staged, size, frees=frees, first=first)

    def place(self, body: StagedBody | WaitingBody) -> None:
        """Put a finished body in its place, durably, and out of that of another disk. Raises DiskFull, OSError."""
        if isinstance(body, StagedFile | WaitingFile):
            self.places.place(body)
        else:
            body.place()

    def is_taken(self, waiting: WaitingBody) -> bool:
        """Whether something lies in the place of a body, on whatever disk."""
        staged = waiting.staged
        return waiting.is_taken() or any(disk.has(staged.bucket, staged.name) for disk in self.places.disks)

    def _begun(self, bucket: UUID) -> Volume:
        """Where a bucket begins that lies nowhere yet."""
        with self._choosing.held():
            disk = self._holder(bucket)
            if disk is None:
                self._require_all()
                disk = self._holder(bucket)  # once more: what was away at the first look may be there now, and have it
            if disk is None:
                disk = max(self._disks, key=lambda candidate: candidate.free_bytes)
                disk.make_bucket(bucket)
            return disk

    def _holder(self, bucket: UUID) -> Volume | None:
        return next(iter(self.holding(bucket)), None)

    def open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> OpenObject | None:
        """Open an object; None if it is not here in the size that the catalogue says, or, if `cut`, not so much of it.

        Raises Unavailable when it is not found while a disk is away on which it may lie, or nothing of the bucket is
        here, which says the same.
        """
        away = None
        for _ in range(self._looks):
            disks = self.holding(bucket)
            for disk in disks:
                try:
                    opened = disk.open(bucket, name, size, cut=cut)
                except Unavailable as error:  # it may lie on another one
                    away = error
                else:
                    if opened is not None:
                        return opened
        if away is not None:
            raise away
        if not disks:
            raise Unavailable(what=f"The disk of bucket {bucket} on node {self._node}")
        if any(disk.may_hold(bucket) for disk in self._disks if disk not in disks):
            raise Unavailable(what=f"A disk of bucket {bucket} on node {self._node}")
        return None

    def lacking(self, bucket: UUID, wanted: Sequence[tuple[ObjectName, int]]) -> set[ObjectName]:
        """Those of `wanted`, names with their sizes, that do not lie here in that size."""
        absent = {name for name, _ in wanted}
        for _ in range(self._looks):
            for disk in self.holding(bucket) if absent else ():
                absent = disk.lacking(bucket, [(name, size) for name, size in wanted if name in absent])
        return absent

    def remove(self, bucket: UUID, names: Sequence[ObjectName]) -> set[ObjectName]:
        """Remove objects durably. Answers those of which nothing is left here; what resists is logged.

        Raises Unavailable when a disk of the bucket is away, on which they may lie; OSError when a sync fails.
        """
        gone = set(names)
        self._require_those_of(bucket)
        with self.places.lock(bucket).held():
            for disk in self.holding(bucket):
                gone &= disk.remove(bucket, names)
        self._require_those_of(bucket)  # else what was looked at may have been the folder below a disk that has gone
        return gone

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        """As Volume.sessions_of, of all volumes."""
        return set().union(*(disk.sessions_of(bucket) for disk in self._disks))

    def clear(self, bucket: UUID, over: Container[UUID], order: UUID) -> bool:
        """As Volume.clear, on all volumes; nothing if the `order` was carried out before."""
        self._require_all()
        was_done = self.is_noted(order)
        done = [was_done or disk.clear(bucket, over) for disk in self._disks]
        self._require_all()
        if all(done):
            self.note(order)
        return all(done)

    def is_noted(self, order: UUID) -> bool:
        """Whether an order to clear a bucket is over. Raises Unavailable, OSError."""
        return any(disk.is_noted(order) for disk in self._disks)

    def note(self, order: UUID) -> None:
        """Keep for good that an order to clear a bucket is over. Raises Unavailable, OSError."""
        for disk in self._disks:
            if not disk.is_noted(order):
                disk.note(order)

    def _require_those_of(self, bucket: UUID) -> None:
        if any(not disk.is_there for disk in self._disks if disk.may_hold(bucket)):
            raise Unavailable(what=f"A disk of node {self._node}")

    def _require_all(self) -> None:
        if not self.all_there:
            raise Unavailable(what=f"A disk of node {self._node}")

    def hash(
        self, bucket: UUID, name: ObjectName, size: int, wanted: bytes | None = None, *, keep: bool = True
    ) -> bytes | None:
        """The SHA-256 of the object's file; None if there is no whole one, or it cannot be read.

        Where a crash, or a disk that was left out, has left it on several disks, and one has what is `wanted` (what its
        name says, if it says that), it is this one, and the others are removed; with `keep` False they stay.
        """
        holding = self.holding(bucket)
        found = self._hash(self, bucket, name, size) if holding else None
        wanted = wanted or bytes.fromhex(name.id)
        if not holding[1:] or not wanted or found == wanted:
            return found
        for disk in self.places.disks:
            if self._hash(disk, bucket, name, size) == wanted:
                if keep:
                    self.places.keep_one(disk, bucket, name)
                return wanted
        return found

    def _hash(self, of: "Volume | Disks", bucket: UUID, name: ObjectName, size: int) -> bytes | None:
        opened = of.open(bucket, name, size)
        if opened is None:
            return None
        try:
            return hash_of(opened, size)
        except OSError as error:
            _log.error("a copy cannot be read", bucket=str(bucket), name=str(name), cause=str(error))
            return None
        finally:
            opened.close()
