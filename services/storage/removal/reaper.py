"""The reaper: what no session can see any more is removed from every disk, then forgotten (docs/sessions.md, rule 11).

Kept true:
- an object is taken only if it was condemned before the opening of every session that is open, and lies in the waste
  basket for its time, as does all that was condemned before it, and all homes have what was put before, but for those
  that were full; this is decided under the bucket's lock, and from then on (state `deleting`) nothing revives it and no
  put enters its name;
- each home removes its own copies, snapshots before index files before packs, each kind durably before the next, so at
  every moment what lies in a bucket's folder names nothing that has been removed there (keys go last);
- a row is deleted when no home has a file of it, so no file is removed after its name was put again;
- a crash after any step leaves rows that say what is still to be done; several nodes do all of it at once.
"""

from datetime import timedelta
from uuid import UUID

import structlog

from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.store import buckets, reaping
from services.storage.transfer.incoming import Incoming
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads

# In one transaction, under a bucket's lock; one node in one go.
_AT_ONCE = 1000
_BUCKETS_AT_ONCE = 1000
_SESSIONS_AT_ONCE = 100
_USES_AT_ONCE = 5000
_LOCKS_AT_ONCE = 1000
# A restic repeats a removal for a quarter of an hour, and finds within some minutes that another has removed its lock.
_LOCKS_KEPT = timedelta(days=1)


class Reaper:
    """The part of one node: it decides for any bucket, and removes from its own disks."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        incoming: Incoming,
        *,
        basket: timedelta,
        sessions_kept: timedelta,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._incoming = incoming
        self._basket = basket
        self._sessions_kept = sessions_kept
        self._log = structlog.get_logger("storage")

    async def reap(self) -> None:
        """One round. Raises Unavailable when the database is away; what a disk refuses holds up that bucket alone."""
        await self._decide()
        await self._sweep()
        await self._remove()

    async def _decide(self) -> None:
        async with self._db.worker() as unit:
            waiting = await reaping.waiting_buckets(unit, self._basket, _BUCKETS_AT_ONCE)
        for bucket in waiting:
            taken = _AT_ONCE
            while taken == _AT_ONCE:
                taken = await self._take(bucket)

    async def _take(self, bucket: UUID) -> int:
        """Begin to remove some of what can go: packs only when no index file can, and these when no snapshot can."""
        taken = 0
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            if state is None:
                return 0
            horizon = await reaping.horizon(unit, bucket, self._basket)
            for kind in reaping.ORDER:
                if taken < _AT_ONCE:
                    taken += await reaping.doom(unit, bucket, kind, horizon, _AT_ONCE - taken)
            if taken:
                await buckets.set_seq(unit, bucket, state.seq + 1)
        if taken:
            self._log.info("objects are being removed", bucket=str(bucket), objects=taken)
        return taken

    async def _remove(self) -> None:
        async with self._db.worker() as unit:
            waiting = await reaping.buckets_of(unit, self._node)
        for bucket in waiting:
            while await self._remove_some(bucket):
                pass

    async def _remove_some(self, bucket: UUID) -> bool:
        """Remove copies of one kind from the disks here; False when none is left that can be removed now."""
        async with self._db.worker() as unit:
            batch = await reaping.next_removals(unit, bucket, self._node, _AT_ONCE)
        if not batch:
            return False
        names = [removal.name for removal in batch]
        try:
            # Staged files first: a put or a fetch whose outcome is still to be placed then finds nothing to place.
            await self._incoming.settle(bucket, removing=names)
            gone = await self._threads.of(bucket).run(lambda: self._disks.remove(bucket, names))
        except (OSError, Unavailable) as error:
            # Of this bucket's disk, which says nothing of the next one's; without the database that one ends the round.
            self._log.error("copies cannot be removed now", bucket=str(bucket), cause=str(error))
            return False
        async with self._db.worker() as unit:
            if await buckets.lock(unit, bucket) is not None:
                done = [removal.object_id for removal in batch if removal.name in gone]
                await reaping.removed(unit, bucket, self._node, done)
        return len(gone) == len(batch)

    async def _sweep(self) -> None:
        """Let go of who used what, and in time of the sessions themselves, where both decide nothing any more.

        Without the bucket's lock: what is true of a session here stays true, and nobody adds to its uses.
        """
        more = True
        while more:
            async with self._db.worker() as unit:
                over = await reaping.sweepable(unit, _SESSIONS_AT_ONCE)
                more = bool(over) and await reaping.sweep(unit, over, _USES_AT_ONCE)
        forgotten = _SESSIONS_AT_ONCE
        while forgotten == _SESSIONS_AT_ONCE:
            async with self._db.worker() as unit:
                forgotten = await reaping.forget_sessions(unit, self._sessions_kept, _SESSIONS_AT_ONCE)
        forgotten = _LOCKS_AT_ONCE
        while forgotten == _LOCKS_AT_ONCE:
            async with self._db.worker() as unit:
                forgotten = await reaping.forget_locks(unit, _LOCKS_KEPT, _LOCKS_AT_ONCE)
