"""A former home removes its files of a bucket.

Kept true:
- files go only while the node is no home of the bucket, and it does not become one before that is done: the row that
  asks for it is entered when the home leaves, keeps the node from joining (store/homes.py), and is deleted when nothing
  is left. An incoming file of a put that may still be entered stays, and holds up the end;
- what an older copy of the database asks for once more is not done: an order that is over is noted on the disks before
  its row goes; and before the first file goes as many homes as there are to be hold all that the bucket has;
- nobody here who has looked at a file of the bucket has still to say so in the catalogue (in_use.py); a bucket that
  somebody is at for long, as an adoption is, holds up no other one.
"""

from contextlib import suppress
from uuid import UUID

import structlog

from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.store import buckets, homes, sessions
from services.storage.upkeep.placement import is_spared
from services.storage.volumes.disks import Disks
from services.storage.volumes.in_use import PATIENCE_SECONDS, InUse
from services.storage.volumes.staging import NO_SESSION
from services.storage.volumes.threads import DiskThreads


class Clearer:
    """The part of one node."""

    def __init__(self, node: str, db: Database, disks: Disks, threads: DiskThreads, silent_seconds: float) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._silent_seconds = silent_seconds
        self._log = structlog.get_logger("storage")

    async def clear(self) -> None:
        """One round. Raises Unavailable when the database is away.

        What a disk refuses, or is in use for long, holds up that bucket alone.
        """
        async with self._db.worker() as unit:
            waiting = await homes.to_clear(unit, self._node)
        for order in waiting:
            with suppress(InUse):
                async with self._disks.in_use.alone(order.bucket_id, PATIENCE_SECONDS):
                    await self._clear(order.bucket_id, order.id)

    async def _clear(self, bucket: UUID, order: UUID) -> None:
        try:
            if not (await self._threads.run(lambda: self._disks.is_noted(order)) or await self._is_spared(bucket)):
                return
            found = await self._threads.run(lambda: self._disks.sessions_of(bucket))
            async with self._db.worker() as unit:
                over = found - await sessions.open_among(unit, sorted(found - {NO_SESSION}))
            is_clear = await self._threads.run(lambda: self._disks.clear(bucket, over, order))
        except (OSError, Unavailable) as error:
            self._log.error("a former home cannot be cleared now", bucket=str(bucket), cause=str(error))
            return
        if not is_clear:
            return
        async with self._db.worker() as unit:
            await buckets.lock(unit, bucket)
            await homes.cleared(unit, bucket, self._node)
        self._log.info("a former home is cleared", bucket=str(bucket))

    async def _is_spared(self, bucket: UUID) -> bool:
        """Whether the homes of a bucket can do without the files here."""
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            found = await homes.states(unit, bucket, self._silent_seconds)
        return state is not None and is_spared(self._node, found, state.copies)
