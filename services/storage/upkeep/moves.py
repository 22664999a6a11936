"""A disk that has too little room passes buckets on to other disks of the node.

Kept true:
- the smallest bucket that is enough moves as a whole, if another disk has room for all of it; else packs of the
  largest are spread, as many as it takes;
- each file is moved by itself (places.py), in a bucket that stays in use; that a bucket leaves a disk is noted there
  first, and until its last file has gone: a node that was killed goes on;
- what is moved to a disk leaves it twice the room below which it would pass something on itself, so nothing moves back;
- one file at a time is moved, and no more bytes a second than the setting says;
- a bucket whose files somebody reads for long, as an adoption does, holds up no other one.
Where no disk of the node has room, buckets change their homes (placement.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from domain.names import ObjectKind, ObjectName
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.errors import DiskFull, NameMismatch
from services.storage.store import copies, homes
from services.storage.store.rescans import FoundFile
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.in_use import PATIENCE_SECONDS, InUse
from services.storage.volumes.pace import Pace
from services.storage.volumes.threads import DiskThreads

_PAGE = 1000
_TOLD_AT_MOST = 10_000


class Mover:
    """The part of one node. `thread` is one that does nothing else: bodies are read and written in it."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        thread: DiskThreads,
        *,
        clock: Clock,
        crowded_bytes: int,
        bytes_per_second: int,
        poll_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        """`crowded_bytes` above its low-water mark are too little room for a disk."""
        self._node = node
        self._db = db
        self._in_use = disks.in_use
        self._places = disks.places
        self._thread = thread
        self._clock = clock
        self._crowded_bytes = crowded_bytes
        self._pace = Pace(clock, bytes_per_second)
        self._poll_seconds = poll_seconds
        self._told: set[Disk] = set()
        self._passed_over = False  # in this round, a bucket of the disk that is looked at
        self._damaged: set[tuple[UUID, ObjectName]] = set()
        self._log = structlog.get_logger("storage")
        self._moved = Counter(
            "oort_storage_moved_bytes", "Bytes that were moved from one disk of this node to another", registry=registry
        )
        crowded = Gauge(
            "oort_storage_crowded_disks", "Disks of this node with less room than they are to have", registry=registry
        )
        crowded.set_function(lambda: sum(map(self._is_crowded, self._places.disks)))

    async def run(self) -> None:
        """Move for ever."""
        while True:
            await self.relieve()
            await self._clock.sleep(self._poll_seconds)

    async def relieve(self) -> None:
        """One round: of each disk what was begun, then what it has too much of.

        An outage, or a disk that fails, is logged, and the next round tries again.
        """
        if not self._crowded_bytes:
            return  # nothing is to move, nor what was begun when it was set
        for disk in self._places.disks:
            self._passed_over = False
            try:
                for bucket in await self._thread.run(disk.leaving.all):
                    await self._leave(disk, bucket)
                if await self._thread.run(lambda disk=disk: disk.is_there and self._is_crowded(disk)):  # type: ignore[misc] # mypy infers no default
                    await self._relieve(disk)
                else:
                    self._told.discard(disk)
            except (ServiceError, OSError) as error:
                self._log.warning("moving from a disk waits", disk=str(disk.folder), cause=str(error))

    def _is_crowded(self, disk: Disk) -> bool:
        return disk.free_bytes < self._crowded_bytes

    def _has_room(self, disk: Disk, size: int = 0) -> bool:
        return disk.is_there and disk.free_bytes - size >= 2 * self._crowded_bytes

    async def _relieve(self, disk: Disk) -> None:
        if not await self._thread.run(lambda: any(map(self._has_room, self._places.disks))):
            self._tell(disk)
            return
        held = await self._thread.run(disk.held)
        async with self._db.worker() as unit:
            sizes = await homes.sizes(unit, self._node, sorted(held))
        needed = 2 * self._crowded_bytes - await self._thread.run(lambda: disk.free_bytes)
        # What is to leave has had its turn: what of it lies here still is damaged, say, and is to hold up no other one.
        leaving = set(await self._thread.run(disk.leaving.all))
        sizes = [(bucket, size) for bucket, size in sizes if bucket not in leaving]
        for bucket, size in reversed(sizes):  # the smallest one that is enough is the soonest done
            if size >= needed and await self._target(disk, bucket, size) is not None:
                await self._begin(disk, bucket)
                await self._leave(disk, bucket)
                return
        for bucket, _ in sizes:
            if not await self._spread(disk, bucket):
                break
        # What was passed over may have room elsewhere: whether there is too little is seen when it is not in use.
        if not self._passed_over and await self._thread.run(lambda: self._is_crowded(disk)):
            self._tell(disk)

    def _tell(self, disk: Disk) -> None:
        """Once, until it is not crowded any more."""
        if disk not in self._told:
            self._told.add(disk)
            self._log.error(
                "a disk is crowded, and no other one of this node has room for what lies there", disk=str(disk.folder)
            )

    async def _begin(self, disk: Disk, bucket: UUID) -> None:
        self._log.info("a bucket outgrows its disk, and moves", bucket=str(bucket), disk=str(disk.folder))
        try:
            await self._thread.run(lambda: disk.leaving.note(bucket))
        except OSError as error:
            # A disk without a byte left: what is moved makes room. A node that is killed begins anew, if it is crowded.
            self._log.warning("that a bucket leaves its disk cannot be noted there", cause=str(error))

    async def _leave(self, disk: Disk, bucket: UUID) -> None:
        """Move all of a bucket, as far as other disks have room and nobody is at it for long."""
        with self._passing_over():
            async for found in self._files(lambda: disk.files(bucket)):
                if not await self._move(disk, bucket, found):
                    return
            async for found in self._files(lambda: iter(disk.root_files(bucket))):
                if not await self._move(disk, bucket, found):
                    return
            async with self._in_use.alone(bucket, PATIENCE_SECONDS):
                has_left = await self._thread.run(lambda: _has_left(disk, bucket))
            if has_left:
                self._log.info("a bucket has left a disk", bucket=str(bucket), disk=str(disk.folder))

    async def _spread(self, disk: Disk, bucket: UUID) -> bool:
        """Move packs of a bucket. False once the disk has room, or no other one has."""
        with self._passing_over():
            async for found in self._files(lambda: disk.files(bucket)):
                if found.name.kind is ObjectKind.PACK and not await self._move(disk, bucket, found):
                    return False
                if await self._thread.run(lambda: self._has_room(disk)):
                    return False
        return True

    @contextmanager
    def _passing_over(self) -> Iterator[None]:
        """A bucket that somebody is at for long."""
        try:
            yield
        except InUse:
            self._passed_over = True

    async def _files(self, of: Callable[[], Iterator[FoundFile | str]]) -> AsyncIterator[FoundFile]:
        files = await self._thread.run(of)
        while page := await self._thread.run(lambda: list(islice(files, _PAGE))):
            for found in page:
                if not isinstance(found, str):  # a stranger's path
                    yield found

    async def _target(self, source: Disk, bucket: UUID, size: int) -> Disk | None:
        """The disk for so many bytes of a bucket: one that has some of it before the roomiest of the others."""

        def find() -> Disk | None:
            fit = [disk for disk in self._places.disks if disk is not source and self._has_room(disk, size)]
            fit = [disk for disk in fit if bucket not in disk.leaving]
            return max(fit, key=lambda disk: (disk.has_bucket(bucket), disk.free_bytes), default=None)

        return await self._thread.run(find)

    async def _move(self, source: Disk, bucket: UUID, found: FoundFile) -> bool:
        """Move one file. False if no disk has room; a damaged one is passed over.

        Raises OSError, Unavailable, InUse.
        """
        target = await self._target(source, bucket, found.size)
        if target is None:
            return False
        try:
            # Nobody who lists the files of the bucket disk by disk is at it meanwhile, or removes them all.
            async with self._in_use.alone(bucket, PATIENCE_SECONDS):
                moved = await _to_the_end(self._thread.run(lambda: self._places.move(bucket, found, source, target)))
        except DiskFull:
            return False
        except NameMismatch as error:
            moved = False
            await self._note_damage(bucket, found, error)
        if moved:
            self._moved.inc(found.size)
            self._damaged.discard((bucket, found.name))
        await self._pace.spend(found.size)
        return True

    async def _note_damage(self, bucket: UUID, found: FoundFile, cause: NameMismatch) -> None:
        """Have it healed, once. A later round moves the whole one."""
        # Another root file may have come to its place.
        if found.name.kind.is_root_file or (bucket, found.name) in self._damaged or len(self._damaged) >= _TOLD_AT_MOST:
            return
        self._damaged.add((bucket, found.name))
        self._log.error("a damaged copy is not moved", bucket=str(bucket), name=str(found.name), cause=str(cause))
        async with self._db.worker() as unit:
            await copies.add_named(unit, bucket, found.name, [self._node], size=found.size)


def _has_left(disk: Disk, bucket: UUID) -> bool:
    """Whether nothing of the bucket lies on the disk, nor arrives there; its folders go then. Raises OSError.

    Foreign files keep them, and the note with them: else the bucket would be begun anew in each round.
    """
    if not disk.is_there or disk.sessions_of(bucket):
        return False
    if (
        disk.root_files(bucket)
        or any(isinstance(found, FoundFile) for found in disk.files(bucket))
        or not disk.is_there
    ):
        return False
    if not disk.drop_folders(bucket):
        return False
    disk.leaving.forget(bucket)
    return True


async def _to_the_end(step: Awaitable[bool]) -> bool:
    """Wait for a step even when cancelled: what it has of the bucket is its alone."""
    running = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
