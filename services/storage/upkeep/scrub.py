"""Scrubbing: each copy on this node's disks is read whole again and again, and compared with its SHA-256.

Kept true:
- the copy that was verified longest ago comes first, but what an operator has asked for before all others; a copy that
  was just being read then counts for it too;
- a copy that differs, lacks bytes or cannot be read is entered as missing, so that replication heals it. Its file stays
  where it is until a whole one is renamed over it: while no home has a whole copy, reads of parts are answered from
  what is left (gets.py), and nothing that could still be saved is thrown away;
- nothing is said of a copy whose disk is away, which holds up no other bucket, nor of an object that has got another
  content or is being removed meanwhile: what is found is judged against the catalogue of the moment in which it is
  entered;
- one file at a time is read, one piece of it is in memory, and no more bytes a second than the setting says.
"""

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError, Unavailable
from services.storage.store import copies, scrubs
from services.storage.store.scrubs import DueCopy, Read, Scrub
from services.storage.transfer.incoming import Incoming
from services.storage.volumes.disks import Disks
from services.storage.volumes.steady import SteadyReader
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import OpenObject

_COPIES_AT_ONCE = 100  # between two entries in the catalogue
_BYTES_AT_ONCE = 256 << 20
_ENTERED_AT_ONCE = 1000
_AWAY_SECONDS = 60.0
_ENTER_SECONDS = 24 * 3600.0


class DiskAway(Exception):
    """A disk is away on which the copy may lie."""


class Scrubber:
    """Verifies the copies of one node. `thread` is one that reads when nobody else does."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        thread: DiskThreads,
        incoming: Incoming,
        *,
        clock: Clock,
        bytes_per_second: int,
        kept: timedelta,
        poll_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        """`kept` is how long a verification is good."""
        self._node = node
        self._db = db
        self._disks = disks
        self._thread = thread
        self._incoming = incoming
        self._clock = clock
        self.reader = SteadyReader(thread, clock, bytes_per_second)
        self._kept = kept
        self._poll_seconds = poll_seconds
        self._enter_at = clock.monotonic()
        self._away: dict[UUID, float] = {}  # buckets that are passed over for a while, and until when
        self._log = structlog.get_logger("storage")
        self._read = Counter("oort_storage_scrubbed_bytes", "Bytes of copies that were read again", registry=registry)
        self._damaged = Counter("oort_storage_damaged_copies", "Copies that scrubbing found damaged", registry=registry)
        self._oldest = Gauge(
            "oort_storage_oldest_verification_timestamp_seconds",
            "When the copy of this node was verified that was so longest ago, in seconds since 1970",
            registry=registry,
        )

    async def run(self) -> None:
        """Scrub for ever. An outage or a disk that is away is logged, and tried again."""
        while True:
            is_busy = False
            try:
                is_busy = await self.scrub()
            except (ServiceError, OSError) as error:
                self._log.warning("scrubbing waits", cause=str(error))
            if not is_busy:
                await self._clock.sleep(self._poll_seconds)

    async def scrub(self) -> bool:
        """Verify one batch; False if there is nothing to do now. Raises Unavailable."""
        now = self._clock.monotonic()
        self._away = {bucket: until for bucket, until in self._away.items() if until > now}
        async with self._db.worker() as unit:
            asked = await scrubs.next_scrub(unit, self._node, list(self._away))
            first = await scrubs.oldest_verification(unit, self._node)
        self._oldest.set(first.timestamp() if first else self._clock.now().timestamp())
        if asked is not None:
            return await self._asked(asked)
        if self._clock.monotonic() >= self._enter_at:
            await self._enter(None)
            self._enter_at = self._clock.monotonic() + _ENTER_SECONDS
        async with self._db.worker() as unit:
            due = await scrubs.oldest(unit, self._node, self._kept, list(self._away), _COPIES_AT_ONCE)
        return await self._verify(due)

    async def _asked(self, scrub: Scrub) -> bool:
        if not scrub.entered:
            await self._enter(scrub)
        async with self._db.worker() as unit:
            due = await scrubs.left_of(unit, scrub, _COPIES_AT_ONCE)
            if not due:
                await scrubs.finish(unit, scrub)
                self._log.info("scrubbed", bucket=str(scrub.bucket_id), copies=scrub.copies, damaged=scrub.damaged)
                return True
        return await self._verify(due)

    async def _enter(self, scrub: Scrub | None) -> None:
        """See to it that each copy has a row that says when it was verified."""
        after: int | None = 0
        while after is not None:
            async with self._db.worker() as unit:
                after = await scrubs.enter(
                    unit, self._node, scrub.bucket_id if scrub else None, after, _ENTERED_AT_ONCE
                )
        if scrub is not None:
            async with self._db.worker() as unit:
                await scrubs.entered(unit, scrub)

    async def _verify(self, due: list[DueCopy]) -> bool:
        """Read copies, and enter what was found, also of those before one that cannot be judged. False if of none."""
        batch: defaultdict[UUID, Read] = defaultdict(Read)
        try:
            for copy in due:
                if sum(found.bytes for found in batch.values()) >= _BYTES_AT_ONCE:
                    break
                await self._verify_one(copy, batch)
        finally:
            if batch:
                async with self._db.worker() as unit:
                    await scrubs.read(unit, self._node, batch)
        return bool(batch)

    async def _verify_one(self, copy: DueCopy, batch: defaultdict[UUID, Read]) -> None:
        if copy.bucket_id in self._away:
            return
        try:
            cause = await self._fault_of(copy)
        except DiskAway:
            self._away[copy.bucket_id] = self._clock.monotonic() + _AWAY_SECONDS
            self._log.warning("a bucket is not scrubbed: a disk is away", bucket=str(copy.bucket_id))
            return
        if cause is None:
            batch[copy.bucket_id].whole.append(copy.object_id)
        else:
            async with self._db.worker() as unit:
                if not await copies.add_if_still(unit, copy.object_id, copy.sha256, copy.size, self._node):
                    return
            batch[copy.bucket_id].damaged += 1
            self._damaged.inc()
            self._log.error("a copy is not whole", bucket=str(copy.bucket_id), name=str(copy.name), cause=cause)
        batch[copy.bucket_id].bytes += copy.size

    async def _fault_of(self, copy: DueCopy) -> str | None:
        """What is wrong with a copy; None if nothing is. Raises DiskAway when that cannot be said."""
        opened = await self._open(copy)
        if opened is None:
            # Entered a moment ago, and not yet in its place.
            await self._incoming.settle(copy.bucket_id, copy.name)
            opened = await self._open(copy)
        if opened is None:
            if not await self._thread.run(lambda: self._disks.all_there):
                raise DiskAway
            return "it is missing or cut"
        try:
            return await self._compare(opened, copy)
        except OSError as error:
            return f"its file cannot be read: {error.strerror}"
        except Unavailable:
            raise DiskAway from None
        finally:
            opened.close()

    async def _open(self, copy: DueCopy) -> OpenObject | None:
        try:
            return await self._thread.run(lambda: self._disks.open(copy.bucket_id, copy.name, copy.size))
        except Unavailable:
            raise DiskAway from None

    async def _compare(self, opened: OpenObject, copy: DueCopy) -> str | None:
        digest = await self.reader.hash(opened, copy.size, self._read.inc)
        if digest is None:
            return "its file was cut while it was read"
        return None if digest == copy.sha256 else "its content has another SHA-256"
