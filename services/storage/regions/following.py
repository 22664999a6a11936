"""Buckets that follow those of another cluster, kept filled from there: an inventory first, then what is new.

Kept true (docs/decisions/regions.md has the argument):
- how far it is says the seq there, which is noted when all that was to be seen at it is here: a pass that was cut off
  is begun again, and finds what it has brought (bringing.py);
- a catalogue there that does not know the last session in which was read there is another one: all is brought from
  it, and nothing is removed by it until an operator says so;
- one node at a time is at work on a bucket, by a lease, which no silence of the other cluster costs it; whoever takes
  it over ends the sessions of who had it;
- nothing is removed (removals.py) while something that is there cannot be brought: it may stand for what would go;
- whatever goes wrong with one bucket, the others are followed and the node serves on.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from oort.storage.v1 import regions_pb2

from domain.names import CONFIG
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError, Unavailable
from services.storage.errors import SessionOver, SourceRefused
from services.storage.peers import Peers
from services.storage.regions.bringing import Bringer
from services.storage.regions.passes import Own, Pass, what_stands
from services.storage.regions.removals import Removals
from services.storage.regions.source import Source
from services.storage.regions.telling import Telling
from services.storage.sessions import lifecycle
from services.storage.store import following
from services.storage.store.following import Behind, Claimed
from services.storage.store.sessions import NOBODY

LEASE_SECONDS = 60.0
_RENEW_SECONDS = LEASE_SECONDS / 4
_END_SECONDS = 5.0
_BUCKETS_AT_ONCE = 64  # whose streams take turns
_LONGEST_PAUSE_SECONDS = 300.0
# After which all is compared again where something could not be brought; twice as long each time.
_SOON_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Follower:
    """Keeps the buckets filled that are this node's to work on, by lease."""

    node: str
    cluster: str
    db: Database
    peers: Peers
    telling: Telling
    clock: Clock
    bringer: Bringer
    removals: Removals
    poll_seconds: float
    inventory_seconds: float
    beat_seconds: float
    frame_seconds: float

    async def run(self) -> None:
        """Follow for ever."""
        log = structlog.get_logger("storage")
        working: set[asyncio.Task[None]] = set()
        is_new = True
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    if is_new:
                        async with self.db.worker() as unit:
                            await following.drop_leases(unit, self.node)
                        is_new = False
                    claimed = await self._claim(_BUCKETS_AT_ONCE - len(working))
                except ServiceError as error:
                    log.warning("following of other clusters waits", cause=str(error))
                    claimed = []
                except Exception:
                    log.exception("following failed, and goes on")
                    claimed = []
                for one in claimed:
                    task = group.create_task(self._work(one))
                    working.add(task)
                    task.add_done_callback(working.discard)
                await self.clock.sleep(min(1.0, self.poll_seconds))

    async def _claim(self, limit: int) -> list[Claimed]:
        if limit <= 0:
            return []
        async with self.db.worker() as unit:
            return await following.claim(unit, self.node, limit, LEASE_SECONDS, places=_BUCKETS_AT_ONCE)

    async def _work(self, one: Claimed) -> None:
        """Go through one bucket, and say when it is to be looked at again."""
        log = structlog.get_logger("storage").bind(bucket=str(one.bucket_id), source=one.source)
        problem, was_refused = "", False
        own = Own(self.db, one, self._claims(one))
        try:
            await self._while(self._follow(own), self._hold(own))
        except (ServiceError, OSError, ValueError) as error:
            problem, was_refused = str(error) or repr(error), isinstance(error, SourceRefused)
            log.warning("a bucket cannot follow now", cause=problem)
        except Exception:
            problem = f"The following failed unexpectedly: the log of node {self.node} says how."
            log.exception("following failed, and goes on")
        longer = 2 ** min(one.attempts, 10) if problem else 1
        pause = min(max(_LONGEST_PAUSE_SECONDS, self.poll_seconds), self.poll_seconds * longer)
        try:
            async with self.db.worker() as unit:
                # Perhaps for nodes of an earlier version there, which do not mark what they bring back meanwhile.
                await following.let_go(unit, one, pause, problem, compare_all=was_refused)
        except ServiceError as error:
            # The lease ends by itself.
            log.warning("a lease is left", cause=str(error))

    async def _while(self, work: Coroutine[Any, Any, None], keeping: Coroutine[Any, Any, None]) -> None:
        """Do the work while what keeps it alive does not fail."""
        tasks = [asyncio.ensure_future(one) for one in (work, keeping)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What keeps it alive ends by an error only.
            await (tasks[0] if tasks[0] in done else tasks[1])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, own: Own) -> None:
        """Bring what is new, and remove what was removed."""
        one = own.one
        source = Source(self.peers, one.bucket_id, one.addresses, seconds=self.frame_seconds)
        there = await source.look(
            self.cluster, await self.telling.endpoints(), one.upto_seq, one.session_id, of=one.source
        )
        await self._require_same(one, there)
        this = Pass(own, source, there)
        if this.is_other and not (one.strayed and one.needs_inventory):
            async with self.db.worker() as unit:
                await following.stray(unit, one, what_stands(this))
            return
        await self._note_behind(one, there)
        if not (there.objects or this.is_inventory or await self._lacks_seal(this)):
            if there.seq != one.seen_seq:
                async with self.db.worker() as unit:
                    await following.nothing_came(unit, one, there.seq)
            return
        session, seq = await source.open(UUID(there.tenant_id), UUID(there.user_id))
        async with self.db.worker() as unit:
            await following.begin(unit, one, session)
        await self._while(self._pass(this, session, seq), self._beat(this))

    async def _pass(self, this: Pass, session: UUID, seq: int) -> None:
        one, source = this.one, this.source
        is_inventory = this.is_inventory
        try:
            await self.bringer.bring_all(this, 0 if is_inventory else one.upto_seq)
            if await self._lacks_seal(this):
                await this.own.begin(Purpose.RETENTION)
                await self.bringer.replace_seal(this)
            if follows_removals := is_inventory and this.follows_removals:
                await this.own.begin(Purpose.RETENTION)
                await self.removals.follow(this)
        finally:
            await self._end(this)
        await self._note_copied(this)
        async with self.db.worker() as unit:
            await following.reached(
                unit,
                one,
                seq,
                compared=is_inventory,
                damaged=this.damaged,
                inventory_seconds=self._until_inventory(this),
                kept=this.kept if follows_removals else None,
                # What an inventory has left is left until the next one.
                standing=what_stands(this) if is_inventory or this.damaged else None,
            )
        ours = await self.telling.endpoints()
        await self._note_behind(one, await source.look(self.cluster, ours, seq, session, of=one.source))

    async def _lacks_seal(self, this: Pass) -> bool:
        """Whether the seal there is to be brought. While something cannot be read there, with an inventory."""
        is_new = this.there.seal_sha256 not in (b"", await this.own.seal())
        return is_new and (this.is_inventory or not this.one.damaged_objects)

    def _until_inventory(self, this: Pass) -> float | None:
        """When all is to be compared again; None: as it is. What is held goes with the ordinary one."""
        if this.damaged:
            return min(self.inventory_seconds, _SOON_SECONDS * (1 << min(this.one.shortfalls, 20)))
        return self.inventory_seconds if this.is_inventory else None

    async def _end(self, this: Pass) -> None:
        """End both sessions; one that cannot be ended now is by its silence."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(this.own.end(), this.source.end())
        except (ServiceError, TimeoutError) as error:
            structlog.get_logger("storage").info("a session of a following is left", cause=repr(error))

    async def _hold(self, own: Own) -> None:
        """Keep the lease and the session here until one of them is lost."""
        while True:
            await self.clock.sleep(min(_RENEW_SECONDS, self.beat_seconds))
            async with self.db.worker() as unit:
                if not await following.renew(unit, own.one, LEASE_SECONDS):
                    raise SourceRefused(detail="it is not followed any more, or another node is at work on it")
            if session := own.session:
                try:
                    await lifecycle.beat(self.db, own.claims, session)
                except SessionOver:
                    if session == own.session:  # and was not ended meanwhile
                        raise

    async def _beat(self, this: Pass) -> None:
        """Say there that the session lives, until it is over."""
        while True:
            await self.clock.sleep(min(_RENEW_SECONDS, this.source.beat_seconds))
            await self._note_copied(this)
            try:
                await this.source.beat()
            except Unavailable as error:
                # It lives for three beats of its own.
                structlog.get_logger("storage").info("the other cluster did not hear a beat", cause=str(error))

    async def _note_copied(self, this: Pass) -> None:
        objects, size, this.objects, this.bytes = this.objects, this.bytes, 0, 0
        async with self.db.worker() as unit:
            await following.note_copied(unit, this.one, objects, size)

    async def _note_behind(self, one: Claimed, there: regions_pb2.LookResponse) -> None:
        still = there.objects, there.bytes, there.oldest_seconds
        behind = Behind(*still, there.lock_days, there.braked, there.endpoints)
        async with self.db.worker() as unit:
            await following.note_behind(unit, one, behind)

    async def _require_same(self, one: Claimed, there: regions_pb2.LookResponse) -> None:
        """Raises SourceRefused unless that is the bucket which is followed, and has itself what is written to it."""
        if (there.tenant_id, there.user_id) != (str(one.tenant_id), str(one.user_id)):
            raise SourceRefused(detail="the bucket there belongs to another user")
        if there.is_following or there.follows not in ("", self.cluster):
            raise SourceRefused(detail=f"the bucket is cluster {there.follows}'s to write to: follow that one")
        async with self.db.worker() as unit:
            config = await following.root_file(unit, one.bucket_id, CONFIG.kind)
        if config is not None and there.config_sha256 != config:
            raise SourceRefused(detail="the bucket there has the config of another vault, or has lost its own")

    def _claims(self, one: Claimed) -> VaultClaims:
        return VaultClaims(one.tenant_id, one.user_id, NOBODY, one.bucket_id, self.cluster, frozenset(Scope), 0, b"")
