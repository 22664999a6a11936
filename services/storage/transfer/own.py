"""A second look at a copy on this node's own disk that the catalogue calls missing.

Kept true: a copy that is there after all, whole by size and SHA-256, counts again. So a disk that was away for a while,
or a file that could not be opened once, costs nothing for good, whatever became of the other homes.
"""

from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.database import Database
from services.storage.store import copies
from services.storage.transfer.incoming import Incoming
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads


class OwnCopies:
    """The copies of one node, looked at by their content."""

    def __init__(self, node: str, db: Database, disks: Disks, threads: DiskThreads, incoming: Incoming) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._incoming = incoming

    async def look_again(self, bucket: UUID, object_id: int, name: ObjectName, sha256: bytes, size: int) -> bool:
        """Whether the copy here is whole; it is no longer missing then. Raises Unavailable."""
        await self._incoming.settle(bucket, name)
        async with self._disks.in_use.shared(bucket):
            if await self._threads.of(bucket).run(lambda: self._disks.hash(bucket, name, size, sha256)) != sha256:
                return False
            async with self._db.worker() as unit:
                found = await copies.clear(unit, object_id, [self._node])
        if found:
            structlog.get_logger("storage").info("a copy is there after all", bucket=str(bucket), name=str(name))
        return True
