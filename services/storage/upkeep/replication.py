"""Healing of missing copies: each home fetches what it lacks from another one, or what is lost from another cluster.

Kept true: a copy counts as there only after its bytes were verified and lie durably in their place; this node's own
disk is looked at before anybody else is asked; a row of missing_copies is claimed by a lease (FOR UPDATE SKIP LOCKED,
then committed), so nothing is locked while bytes travel or a disk works; what has the fewest copies comes first, and no
more bytes a second are fetched than the setting says.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.errors import DiskFull, NameMismatch
from services.storage.peers import Peers
from services.storage.regions.healing import OtherRegions
from services.storage.store import copies
from services.storage.store.copies import MissingCopy
from services.storage.transfer.copies import LocalCopy
from services.storage.transfer.frames import Frame, get_body
from services.storage.transfer.gets import Part, copy_request, fetch
from services.storage.transfer.own import OwnCopies
from services.storage.volumes.disks import Disks
from services.storage.volumes.pace import Pace
from services.storage.volumes.staging import NO_SESSION, StagedName
from services.storage.volumes.threads import DiskThreads

# A claim that its claimer does not fulfil comes back after this many seconds.
_LEASE_SECONDS = 120.0
_LONGEST_PAUSE_SECONDS = 10.0
# Of an object that no other home has either: each look at what lies here reads all of it.
_LONGEST_PAUSE_FOR_LOST_SECONDS = 600.0
_TOLD_AT_MOST = 10_000
# To find out what comes first takes a look at all that is missing: so many objects, for so long, are known ahead.
_KNOWN_AHEAD = 1000
_KNOWN_SECONDS = 30.0


# GetCopyResponse or GetResponse messages with the whole object.
Messages = Callable[[], AsyncGenerator[bytes, None]]


class Rotten(Exception):
    """A source sent as many bytes as the object has, and others."""


class Replicator:
    """Fetches the copies that one node lacks."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        peers: Peers,
        *,
        own: OwnCopies,
        regions: OtherRegions,
        clock: Clock,
        streams: int,
        bytes_per_second: int,
        silent_seconds: float,
        copy_seconds: float,
        poll_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._peers = peers
        self._own = own
        self._regions = regions
        self._clock = clock
        self._streams = streams
        self._silent_seconds = silent_seconds
        self._copy_seconds = copy_seconds
        self._poll_seconds = poll_seconds
        self._pace = Pace(clock, bytes_per_second)
        self._next: list[int] = []  # objects, by urgency
        self._known_until = clock.monotonic()
        self._told_lost: set[int] = set()
        self._failures = Counter(
            "oort_storage_replication_failures",
            "Errors that replication did not expect, and went on after",
            registry=registry,
        )
        self._log = structlog.get_logger("storage")

    async def run(self) -> None:
        """Heal for ever."""
        while True:
            try:
                done = await self.heal()
            except ServiceError as error:
                self._log.warning("replication waits", cause=str(error))
                done = 0
            except Exception:  # noqa: BLE001 - whatever it is, the node serves on, and tries again
                self._note_failure()
                done = 0
            if not done:
                await self._clock.sleep(self._poll_seconds)

    async def heal(self) -> int:
        """Fetch one batch of what this node lacks. Answers how many copies are there now."""
        async with self._db.worker() as unit:
            if not self._next or self._clock.monotonic() >= self._known_until:
                self._next = await copies.most_urgent(unit, self._node, _KNOWN_AHEAD)
                self._known_until = self._clock.monotonic() + _KNOWN_SECONDS
            batch: list[MissingCopy] = []
            while self._next and not batch:
                some, self._next = self._next[: self._streams], self._next[self._streams :]
                batch = await copies.claim(unit, self._node, some, _LEASE_SECONDS)
        return sum(await asyncio.gather(*(self._heal_or_wait(missing) for missing in batch)))

    async def _heal_or_wait(self, missing: MissingCopy) -> bool:
        healed = False
        try:
            healed = await self._heal(missing)
        except (ServiceError, OSError) as error:
            self._log.warning("a copy cannot be healed now", object=missing.object_id, cause=str(error))
        except Exception:  # noqa: BLE001 - what nobody expected of one object keeps none of the others waiting
            self._note_failure(object=missing.object_id)
        if healed:
            self._told_lost.discard(missing.object_id)
        else:
            is_lost = missing.object_id in self._told_lost
            longest = _LONGEST_PAUSE_FOR_LOST_SECONDS if is_lost else _LONGEST_PAUSE_SECONDS
            pause = min(longest, self._poll_seconds * 2 ** min(missing.attempts, 10))
            async with self._db.worker() as unit:
                await copies.retry_after(unit, missing.object_id, self._node, pause)
        return healed

    def _note_failure(self, **of: object) -> None:
        self._failures.inc()
        self._log.exception("replication failed, and goes on", **of)

    async def _heal(self, missing: MissingCopy) -> bool:
        # Not while the files of a former home are removed.
        async with self._disks.in_use.shared(missing.bucket_id):
            return await self._heal_here(missing)

    async def _heal_here(self, missing: MissingCopy) -> bool:
        if await self._own.look_again(missing.bucket_id, missing.object_id, missing.name, missing.sha256, missing.size):
            return True
        async with self._db.worker() as unit:
            holders = await copies.holders(unit, missing.bucket_id, missing.object_id, self._silent_seconds)
        sources = [one for one in holders if one.has_copy and one.node_id != self._node]
        self._tell_if_lost(missing, is_lost=not sources)
        for source in sorted(sources, key=lambda one: not one.live):
            whole = Part(0, missing.size, missing.size)
            request = copy_request(missing.bucket_id, missing.name, missing.sha256, whole)
            messages = partial(fetch, self._peers, source.internal_endpoint, request, self._copy_seconds)
            try:
                await self._fetch(missing, messages)
            except Rotten as error:
                self._log.error("a copy is altered", node=source.node_id, object=missing.object_id, cause=str(error))
                # Its own node looks at it again, and counts it again should it be whole.
                async with self._db.worker() as unit:
                    await copies.add_if_still(unit, missing.object_id, missing.sha256, missing.size, source.node_id)
            except DiskFull as error:
                self._log.warning("a copy finds no room", object=missing.object_id, size=missing.size, cause=str(error))
                async with self._db.worker() as unit:
                    await copies.await_no_more(unit, missing.object_id, self._node)
                return False
            except (grpc.aio.AioRpcError, TimeoutError, ServiceError, OSError, ValueError) as error:
                cause = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                self._log.warning(
                    "a copy cannot be fetched", node=source.node_id, object=missing.object_id, cause=cause
                )
            else:
                return True
        return not sources and await self._fetch_from_another_cluster(missing)

    async def _fetch_from_another_cluster(self, missing: MissingCopy) -> bool:
        """Of what no home here has a whole copy: from a cluster that this bucket follows, or that follows it."""
        for region in await self._regions.of(missing.bucket_id):
            try:
                async with self._regions.reading(region) as source:
                    await self._fetch(missing, partial(source.messages, missing.name))
            except (Rotten, TimeoutError, ServiceError, OSError, ValueError) as error:
                self._log.warning(
                    "a lost object is not to be had", cluster=region.name, object=missing.object_id, cause=str(error)
                )
            else:
                self._log.warning(
                    "a lost object is back from another cluster",
                    cluster=region.name,
                    bucket=str(missing.bucket_id),
                    name=str(missing.name),
                )
                return True
        return False

    def _tell_if_lost(self, missing: MissingCopy, *, is_lost: bool) -> None:
        """Once; it stays lost until a backup sends it again, or a disk comes back."""
        if not is_lost:
            self._told_lost.discard(missing.object_id)
        elif missing.object_id not in self._told_lost and len(self._told_lost) < _TOLD_AT_MOST:
            self._told_lost.add(missing.object_id)
            self._log.error(
                "an object is lost: no home has a whole copy", bucket=str(missing.bucket_id), name=str(missing.name)
            )

    async def _fetch(self, missing: MissingCopy, messages: Messages) -> None:
        """Make the copy here of what a source sends. Raises Rotten, and what the source does."""
        name = missing.name
        staged = StagedName(missing.bucket_id, NO_SESSION, name, missing.sha256)
        copy = LocalCopy(self._node, self._disks, self._threads, staged, missing.size, frees=missing.frees)
        arrived = 0
        try:
            await copy.begin()
            if missing.size:
                async with aclosing(messages()) as frames:
                    async for message in frames:
                        frame = Frame(message, get_body(message))
                        arrived += len(frame.body)
                        await copy.write(frame)
                        await self._pace.spend(len(frame.body))
            try:
                await copy.stage()
            except NameMismatch as error:
                raise (Rotten(str(error)) if arrived == missing.size else error) from error
            # A removal of the object waits for the claims on its missing copies (docs/sessions.md).
            async with self._db.worker() as unit:
                wanted = await copies.renew(unit, missing.object_id, missing.sha256, self._node, _LEASE_SECONDS)
            if wanted:
                await copy.place()
                async with self._db.worker() as unit:
                    await copies.clear(unit, missing.object_id, [self._node])
        finally:
            await copy.discard()
