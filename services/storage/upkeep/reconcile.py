"""The catalogue meets the disk: what a node is home of and does not hold is entered as missing.

Kept true: a node that has started counts as reconciled only after each object that the catalogue says it holds was
found on its disks, by name and size, or entered as missing; where a disk is away nothing is said of the objects, and
all are compared again when it is back.
"""

import asyncio
from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.store import copies
from services.storage.transfer.incoming import Incoming
from services.storage.upkeep.work import Presence
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads

# How many objects or buckets are asked for at once.
_PAGE = 1000
_AGAIN_SECONDS = 5.0


class Reconciler:
    """Compares the disks of one node with the catalogue: after its start, and then every `pause_seconds`."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        *,
        incoming: Incoming,
        presence: Presence,
        clock: Clock,
        pause_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._incoming = incoming
        self._presence = presence
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._log = structlog.get_logger("storage")

    async def run(self) -> None:
        """Reconcile for ever. An outage or a disk that is away is logged, and tried again soon."""
        due = self._clock.monotonic()
        while True:
            if not self._presence.is_reconciled or self._clock.monotonic() >= due:
                try:
                    absences = self._presence.absences
                    if await self.reconcile():
                        due = self._clock.monotonic() + self._pause_seconds
                        await self._presence.reconciled(absences)
                except (ServiceError, OSError) as error:
                    self._log.warning("the disks could not be compared with the catalogue", cause=str(error))
            await self._clock.sleep(min(_AGAIN_SECONDS, self._pause_seconds))

    async def reconcile(self) -> bool:
        """Enter what the disks lack as missing. False if a disk is away, so that not all could be judged."""
        lacking = 0
        after: UUID | None = None
        while True:
            async with self._db.worker() as unit:
                buckets = await copies.buckets_of(unit, self._node, after, _PAGE)
            for bucket in buckets:
                found = await self.bucket(bucket)
                if found is None:
                    self._log.error("a disk of this node is away", bucket=str(bucket))
                    return False
                lacking += found
            if len(buckets) < _PAGE:
                break
            after = buckets[-1]
        if lacking:
            self._log.error("the disks lack objects that the catalogue says they hold", objects=lacking)
        return True

    async def bucket(self, bucket: UUID) -> int | None:
        """Enter what the disks lack of a bucket as missing.

        Answers how many objects; None if that cannot be said, for a disk is away.
        """
        threads = self._threads.of(bucket)
        lacking = 0
        after = ("", b"")
        while True:
            async with self._db.worker() as unit:
                held = await copies.held(unit, bucket, self._node, after, _PAGE)
            wanted = [(row.name, row.size) for row in held]
            absent = await threads.run(lambda wanted=wanted: self._disks.lacking(bucket, wanted))  # type: ignore[misc] # mypy infers no default
            if absent:
                # Looked at again: it may have been entered a moment ago, and not yet be in its place, or the disk may
                # have been away just then.
                await self._incoming.settle(bucket)
                surely = await self._surely_lacking(bucket, wanted)
                if surely is None:
                    return None
                absent = surely
            if absent:
                async with self._db.worker() as unit:
                    await copies.add_all(unit, [row.object_id for row in held if row.name in absent], self._node)
                lacking += len(absent)
            if len(held) < _PAGE:
                return lacking
            after = (held[-1].kind, held[-1].sha256)
            await asyncio.sleep(0)

    async def _surely_lacking(self, bucket: UUID, wanted: list[tuple[ObjectName, int]]) -> set[ObjectName] | None:
        """What the disks lack that are there before the look and after it; None if one is not."""
        if not await self._threads.run(lambda: self._disks.all_there):
            return None
        absent = await self._threads.of(bucket).run(lambda: self._disks.lacking(bucket, wanted))
        return absent if await self._threads.run(lambda: self._disks.all_there) else None
