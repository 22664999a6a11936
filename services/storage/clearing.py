"""A former home removes its files of a bucket.

Kept true: files go only while the node is no home of the bucket, and it does not become one before that is done: the
row that asks for it is entered when the home leaves, keeps the node from joining (store/homes.py), and is deleted when
nothing is left. An incoming file of a put that may still be entered stays, and holds up the end; nobody here who has
looked at a file of the bucket has still to say so in the catalogue (in_use.py).
"""

from uuid import UUID

import structlog

from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.copies import DiskThreads
from services.storage.disk import NO_SESSION
from services.storage.disks import Disks
from services.storage.store import buckets, homes, sessions


class Clearer:
    """The part of one node."""

    def __init__(self, node: str, db: Database, disks: Disks, threads: DiskThreads) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._log = structlog.get_logger("storage")

    async def clear(self) -> None:
        """One round. Raises Unavailable when the database is away; what a disk refuses holds up that bucket alone."""
        async with self._db.worker() as unit:
            waiting = await homes.to_clear(unit, self._node)
        for bucket in waiting:
            async with self._disks.in_use.alone(bucket):
                await self._clear(bucket)

    async def _clear(self, bucket: UUID) -> None:
        try:
            found = await self._threads.run(lambda: self._disks.sessions_of(bucket))
            async with self._db.worker() as unit:
                over = found - await sessions.open_among(unit, sorted(found - {NO_SESSION}))
            is_clear = await self._threads.run(lambda: self._disks.clear(bucket, over))
        except (OSError, Unavailable) as error:
            self._log.error("a former home cannot be cleared now", bucket=str(bucket), cause=str(error))
            return
        if not is_clear:
            return
        async with self._db.worker() as unit:
            await buckets.lock(unit, bucket)
            await homes.cleared(unit, bucket, self._node)
        self._log.info("a former home is cleared", bucket=str(bucket))
