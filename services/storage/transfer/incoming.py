"""Settling of incoming files whose put has lost its thread: a node was killed, or a coordinator went away.

Kept true: what the catalogue has entered gets into its place; what it can never enter any more is thrown away, but not
before it is its turn to be removed; what may still be entered is touched by nobody. A put enters only while its
session is open, so "no entry and the session is over", read in one snapshot, means never. What is entered and cannot
get into its place is entered as missing. Of a bucket that the node is no home of nothing is thrown away: the catalogue
may have been lost, and be made anew (rescan.py).
"""

from collections.abc import Collection
from uuid import UUID

import structlog

from domain.names import ObjectName
from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.errors import DiskFull
from services.storage.store import copies, objects
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import NO_SESSION
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import Volume, WaitingBody


class Incoming:
    """The incoming files of one node."""

    def __init__(self, node: str, db: Database, disks: Disks, threads: DiskThreads) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._log = structlog.get_logger("storage")

    async def recover(self) -> None:
        """After a start of the node: whatever an earlier run left. Runs before any of its workers serves."""
        await self.drop_parts()
        await self.settle()
        async with self._db.worker() as unit:
            await copies.retry_all(unit, self._node)

    async def drop_parts(self) -> None:
        """After a start of one worker: what it had begun to take when it ended."""
        for disk in self._disks:
            await self._threads.run(disk.drop_parts)

    async def settle(
        self, bucket: UUID | None = None, name: ObjectName | None = None, *, removing: Collection[ObjectName] = ()
    ) -> int:
        """Settle the files of one bucket, or of one object, or all. Answers how many were put in their place.

        `removing` are objects that the caller removes from this node as soon as this is done.

        What resists, a file or a whole store, is logged and passed over: it keeps neither the others waiting nor the
        node from starting.
        """
        placed = 0
        for disk in self._disks:
            for waiting in await self._waiting(disk, bucket):
                if name is None or waiting.staged.name == name:
                    async with self._disks.in_use.shared(waiting.staged.bucket):
                        placed += await self._settle(waiting, is_going=waiting.staged.name in removing)
        return placed

    async def _waiting(self, disk: Volume, bucket: UUID | None) -> list[WaitingBody]:
        threads = self._threads if bucket is None else self._threads.of(bucket)
        try:
            return await threads.run(lambda: list(disk.staged(bucket)))
        except Unavailable as error:
            self._log.error("incoming files cannot be listed", cause=str(error))
            return []

    async def _settle(self, waiting: WaitingBody, *, is_going: bool) -> bool:
        staged = waiting.staged
        async with self._db.worker() as unit:
            fate = await objects.fate(unit, staged.bucket, staged.session, staged.name, staged.sha256, node=self._node)
        try:
            if fate.object_id is not None and fate.entered:
                await self._threads.of(staged.bucket, sends=True).run(lambda: self._disks.place(waiting))
            else:
                # A pack that this node is to remove may be named by index files here, which go before it.
                is_needed = (fate.leaving and not is_going) or not fate.is_home
                if not is_needed and (fate.session_over or staged.session == NO_SESSION):
                    await self._threads.of(staged.bucket).run(waiting.discard)
                return False
        except (OSError, DiskFull, Unavailable) as error:
            if not isinstance(error, Unavailable) and await self._has_gone(waiting):
                # Its own put is settling it at this moment.
                return False
            self._log.error(
                "an incoming file cannot be settled", bucket=str(staged.bucket), name=str(staged.name), cause=str(error)
            )
            if fate.object_id is not None and fate.entered:
                async with self._db.worker() as unit:
                    await copies.add(unit, fate.object_id, self._node)
            return False
        async with self._db.worker() as unit:
            await copies.clear(unit, fate.object_id, [self._node])
        self._log.info("placed an incoming file", bucket=str(staged.bucket), name=str(staged.name))
        return True

    async def _has_gone(self, waiting: WaitingBody) -> bool:
        """False where that cannot be said now."""
        try:
            return not await self._threads.of(waiting.staged.bucket).run(waiting.exists)
        except Unavailable:
            return False
