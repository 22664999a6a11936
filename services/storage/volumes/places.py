"""The disks of a node as one place for the files of a bucket, which may lie on several of them.

Kept true:
- the file of an object lies on one disk: who puts it in its place on one removes it from the others after that is
  durable, and nobody removes it from one whose own has gone meanwhile. So what is moved can be read at every moment by
  who looks at all disks, and once more if he has found nothing;
- what is moved was read whole, and has its SHA-256: a damaged file stays where it is;
- while a removal is at work on a bucket nothing of it is moved: no file comes to a disk that was looked at already.

Crash order of a move: that of a put on the new disk (disk.py), then the unlinking on the old one. A crash before that
leaves the file on both, which is the same one, and either is found; one before the renaming an incoming file, which is
settled like that of a copy fetched by replication (incoming.py).
Everything here blocks, and runs in the node's disk threads.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.worker import ByteLocks, InstanceLock
from services.storage.errors import NameMismatch
from services.storage.store.rescans import FoundFile
from services.storage.volumes.disk import Disk, StagedFile, WaitingFile
from services.storage.volumes.reading import OpenFile
from services.storage.volumes.staging import NO_SESSION, StagedName

CHOOSING = 0  # the number of the lock that the choice of a disk for a new bucket has (disks.py)
_LOCKS = 64
_PIECE = 1 << 20
_log = structlog.get_logger("storage")


class Places:
    """Of one node."""

    def __init__(self, disks: Sequence[Disk], locks: ByteLocks | None = None) -> None:
        """`locks` where the node has more workers than this one."""
        self.disks = disks
        self._locks = [InstanceLock(locks, CHOOSING + 1 + number) for number in range(_LOCKS)]

    def lock(self, bucket: UUID) -> InstanceLock:
        """What a removal from the bucket and a move of its files have one at a time, in all workers."""
        return self._locks[bucket.int % _LOCKS]

    def taking(self, bucket: UUID, name: ObjectName, size: int, *, first: bool) -> list[Disk]:
        """The disks for a body of a bucket that lies on some of them, one after the other; none if it lies on none.

        Those that have room: where something lies in its place, the roomiest of the bucket's disks, of the others,
        and of those that it leaves. If none has, the first of these, which takes what makes room, and refuses all else.
        The `first` of a name that is to bury nothing goes where something lies in its place, which refuses it.
        """
        holding = [disk for disk in self.disks if disk.has_bucket(bucket)]
        if len(self.disks) == 1 or not holding:
            return holding
        there = [disk for disk in holding if disk.has(bucket, name)]
        if there and first:
            return there[:1]
        left = [disk for disk in holding if bucket in disk.leaving]
        staying = [disk for disk in holding if disk not in left]
        # Not in the folder below a disk that has gone.
        others = [disk for disk in self.disks if disk not in holding and disk.is_there]
        takers = [*there, *_roomiest_first(staying), *_roomiest_first(others), *_roomiest_first(left)]
        return [disk for disk in dict.fromkeys(takers) if size <= disk.free_bytes] or takers[:1]

    def place(self, body: StagedFile | WaitingFile) -> None:
        """Put a finished body in its place on its disk, and remove what others have there. Raises DiskFull, OSError."""
        disk, bucket, name = body.disk, body.staged.bucket, body.staged.name
        if len(self.disks) == 1:
            body.place()
        elif name.kind.is_root_file:  # whose name does not say its content: a move of another one is not to end now
            with self.lock(bucket).held():
                if body.place():
                    self._keep_one(disk, bucket, name)
        elif self._place_named(body) and any(other.has(bucket, name) for other in self.disks if other is not disk):
            self.keep_one(disk, bucket, name)

    def _place_named(self, body: StagedFile | WaitingFile) -> bool:
        """False if somebody has placed it, whatever has become of it since: it is whole on some disk."""
        with suppress(FileNotFoundError):  # it may have been placed, and moved since
            if body.place():
                return True
        bucket, name, content = body.staged.bucket, body.staged.name, body.staged.sha256
        with self.lock(bucket).held():  # nothing is moved meanwhile
            if not any(disk.has_whole(bucket, name, content) for disk in self.disks):
                raise FileNotFoundError(errno.ENOENT, "an incoming file is neither there nor in its place", str(name))
        return False

    def keep_one(self, disk: Disk, bucket: UUID, name: ObjectName) -> None:
        """Remove an object's files from all disks but the one that has it whole. What resists is logged, and stays."""
        try:
            with self.lock(bucket).held():
                self._keep_one(disk, bucket, name)
        except OSError as error:
            _log.error("a copy cannot be removed", bucket=str(bucket), name=str(name), cause=str(error))

    def _keep_one(self, disk: Disk, bucket: UUID, name: ObjectName) -> None:
        if disk.has(bucket, name):
            for other in self.disks:
                if other is not disk and other.has(bucket, name):
                    other.remove(bucket, [name])

    def move(self, bucket: UUID, found: FoundFile, source: Disk, target: Disk) -> bool:
        """Move the file of an object to another disk. False if it is not there, or not whole, and stays as it is.

        Raises NameMismatch when it cannot be read, or is not what it was or ought to be; DiskFull, OSError.
        """
        opened = source.open(bucket, found.name, found.size)
        if opened is None:
            return False
        try:
            body = target.stage(StagedName(bucket, NO_SESSION, found.name, found.sha256), found.size)
            try:
                _copy(opened, body, found)
                body.date(opened.modified_ns)  # a rescan tells seals by their age
                body.finish()
                with self.lock(bucket).held():
                    if not (source.is_there and target.is_there and self._is_still(source, bucket, found)):
                        return False
                    if not body.place():
                        return False
                    self._keep_one(target, bucket, found.name)
                    if source.has(bucket, found.name):
                        raise OSError(errno.EIO, "a file that was moved cannot be removed", str(source.folder))
            finally:
                body.discard()
        finally:
            opened.close()
        return True

    def _is_still(self, disk: Disk, bucket: UUID, found: FoundFile) -> bool:
        if found.name.kind.is_root_file:
            there = {one.sha256 for other in self.disks for one in other.root_files(bucket) if one.name == found.name}
            return disk.has(bucket, found.name) and there == {found.sha256}  # it is not put over another one
        return disk.has(bucket, found.name)


def _copy(opened: OpenFile, body: StagedFile, found: FoundFile) -> None:
    for offset in range(0, found.size, _PIECE):
        try:
            piece = opened.read(offset, _PIECE)
            opened.let_go(offset, _PIECE)
        except OSError as error:
            raise NameMismatch(name=found.name, detail=f"its file cannot be read: {error.strerror}") from error
        body.write(piece)


def _roomiest_first(disks: Sequence[Disk]) -> list[Disk]:
    return sorted(disks, key=lambda disk: -disk.free_bytes)
