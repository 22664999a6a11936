"""Buckets that follow those of another cluster, kept filled from there: an inventory first, then what is new.

Kept true (docs/decisions/regions.md has the argument):
- the bucket here is a whole repository at any moment: what is new is listed as snapshots, index files, packs, and
  stored the other way round; what was removed goes in the order of retention;
- how far it is says the seq there, which is noted when all that was to be seen at it is here: a pass that was cut off
  is begun again, and finds what it has brought;
- a catalogue there that does not know the last session in which was read there is another one: all is brought from
  it, and nothing is removed by it until an operator says so;
- one node at a time is at work on a bucket, by a lease, which no silence of the other cluster costs it; whoever takes
  it over ends the sessions of who had it;
- what is removed there is removed here as a retention removes: object lock, brake and waste basket of this cluster hold
  it, while a snapshot or an index file is held nothing goes that it may need, and nothing goes at all while something
  that is there cannot be brought: it may stand for what would go.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog
from oort.storage.v1 import regions_pb2

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError, Unavailable
from services.storage import retention, sessions
from services.storage.errors import Damaged, Held, SessionOver, SnapshotInUse, SourceRefused
from services.storage.frames import Frame, get_body, put_frame
from services.storage.holding import Brake
from services.storage.pace import Pace
from services.storage.passes import Own, Pass, what_stands
from services.storage.peers import Peers
from services.storage.puts import Put, Puts
from services.storage.regions import Regions, begin_session
from services.storage.rpc.names import name_of
from services.storage.source import Source
from services.storage.store import following
from services.storage.store.following import Behind, Claimed
from services.storage.store.sessions import NOBODY

LEASE_SECONDS = 60.0
_RENEW_SECONDS = LEASE_SECONDS / 4
_END_SECONDS = 5.0
_BUCKETS_AT_ONCE = 64  # whose streams take turns
_TRIES = 3
_PAGE = retention.CONDEMNED_AT_ONCE
_LONGEST_PAUSE_SECONDS = 300.0
# After which all is compared again where something could not be brought; twice as long each time.
_SOON_SECONDS = 900.0
_REMOVED = (ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY)


@dataclass(slots=True)
class Follower:
    """Keeps the buckets filled that are this node's to work on, by lease."""

    node: str
    cluster: str
    db: Database
    puts: Puts
    peers: Peers
    regions: Regions
    clock: Clock
    brake: Brake
    streams: int
    pace: Pace
    poll_seconds: float
    inventory_seconds: float
    beat_seconds: float
    frame_seconds: float
    _turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.streams)

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
                for one in claimed:
                    task = group.create_task(self._work(one))
                    working.add(task)
                    task.add_done_callback(working.discard)
                await self.clock.sleep(min(1.0, self.poll_seconds))

    async def _claim(self, limit: int) -> list[Claimed]:
        if limit <= 0:
            return []
        async with self.db.worker() as unit:
            return await following.claim(unit, self.node, limit, LEASE_SECONDS)

    async def _work(self, one: Claimed) -> None:
        """Go through one bucket, and say when it is to be looked at again."""
        problem, pause, failed = "", self.poll_seconds, False
        own = Own(one, self._claims(one))
        try:
            await self._while(self._follow(own), self._hold(own))
        except (ServiceError, OSError, ValueError) as error:
            problem, failed = str(error), True
            pause = min(_LONGEST_PAUSE_SECONDS, self.poll_seconds * 2 ** min(one.attempts, 10))
            structlog.get_logger("storage").warning(
                "a bucket cannot follow now", bucket=str(one.bucket_id), source=one.source, cause=problem
            )
        try:
            async with self.db.worker() as unit:
                await following.let_go(unit, one, pause, problem, failed=failed)
        except ServiceError as error:
            # The lease ends by itself.
            structlog.get_logger("storage").warning("a lease is left", bucket=str(one.bucket_id), cause=str(error))

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
        there = await source.look(self.cluster, await self.regions.endpoints(), one.upto_seq, one.session_id)
        await self._require_same(one, there)
        this = Pass(own, source, there)
        if this.is_other and not (one.strayed and one.needs_inventory):
            async with self.db.worker() as unit:
                await following.stray(unit, one, what_stands(this))
            return
        await self._note_behind(one, there)
        is_sealed = not there.seal_sha256 or await self._seal_here(one) == there.seal_sha256
        if is_sealed and not (there.objects or this.is_inventory):
            if there.seq != one.seen_seq:
                async with self.db.worker() as unit:
                    await following.nothing_came(unit, one, there.seq)
            return
        session, seq = await source.open(UUID(there.tenant_id), UUID(there.user_id))
        async with self.db.worker() as unit:
            await following.begin(unit, one, session)
        await self._while(self._pass(this, session, seq), self._beat(this))

    async def _pass(self, this: Pass, session: UUID, seq: int) -> None:
        one, source, there = this.one, this.source, this.there
        is_inventory = this.is_inventory
        try:
            await self._bring_all(this, 0 if is_inventory else one.upto_seq)
            follows_removals = is_inventory and this.follows_removals
            is_sealed_anew = await self._seal_here(one) not in (None, there.seal_sha256) and bool(there.seal_sha256)
            if follows_removals or is_sealed_anew:
                await self._retain(this, removes=follows_removals)
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
        await self._note_behind(one, await source.look(self.cluster, await self.regions.endpoints(), seq, session))

    def _until_inventory(self, this: Pass) -> float | None:
        """When all is to be compared again; None: as it is. What is held goes with the ordinary one."""
        if this.damaged:
            return min(self.inventory_seconds, _SOON_SECONDS * (1 << min(this.one.shortfalls, 20)))
        return self.inventory_seconds if this.is_inventory else None

    async def _bring_all(self, this: Pass, after_seq: int) -> None:
        """Store what came after a seq. Listed from snapshots to packs, so that whatever is listed has all it needs."""
        listed: dict[ObjectKind, list[regions_pb2.Change]] = {}
        for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX):
            listed[kind] = await self._lacking(this, kind, after_seq)
        await self._begin(this, Purpose.REPLICATE)
        for kind in (ObjectKind.KEY, ObjectKind.CONFIG):
            await self._bring(this, await self._lacking(this, kind, 0))
        if await self._seal_here(this.one) is None:
            await self._bring(this, await self._lacking(this, ObjectKind.SEAL, 0))
        async with aclosing(this.source.changes(ObjectKind.PACK, after_seq)) as pages:
            async for page in pages:
                await self._bring(this, await self._not_here(this, ObjectKind.PACK, page))
        for kind in (ObjectKind.INDEX, ObjectKind.SNAPSHOT):
            await self._bring(this, listed[kind])

    async def _lacking(self, this: Pass, kind: ObjectKind, after_seq: int) -> list[regions_pb2.Change]:
        lacking: list[regions_pb2.Change] = []
        async with aclosing(this.source.changes(kind, after_seq)) as pages:
            async for page in pages:
                lacking += await self._not_here(this, kind, page)
        return lacking

    async def _not_here(
        self, this: Pass, kind: ObjectKind, changes: Sequence[regions_pb2.Change]
    ) -> list[regions_pb2.Change]:
        async with self.db.worker() as unit:
            here = await following.here(unit, this.one.bucket_id, kind, [change.sha256 for change in changes])
        return [change for change in changes if change.sha256 not in here]

    async def _bring(self, this: Pass, changes: Sequence[regions_pb2.Change]) -> None:
        """Store objects of one kind; those that no copy there is whole of are counted."""
        for start in range(0, len(changes), self.streams):  # so few at a time that no bucket keeps others waiting long
            some = changes[start : start + self.streams]
            tasks = [asyncio.ensure_future(self._bring_one(this, change)) for change in some]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_one(self, this: Pass, change: regions_pb2.Change) -> None:
        if this.own.session is None:
            raise AssertionError("nothing is brought but in a session")
        name = name_of(change.name)
        put = Put(this.own.claims, this.own.session, name, change.sha256, change.size)
        async with self._turns:
            for left in reversed(range(_TRIES)):
                try:
                    async with aclosing(self._frames(this.source, name)) as frames:
                        if name == SEAL:
                            await self.puts.replace_seal(put, await _all_of(frames), b"")
                        else:
                            await self.puts.put(put, frames)
                except Damaged as error:
                    this.damaged += 1
                    this.first_damaged = this.first_damaged or str(error)
                    return
                except Unavailable:
                    if not left:
                        raise
                else:
                    break
        this.objects += 1
        this.bytes += change.size

    async def _frames(self, source: Source, name: ObjectName) -> AsyncGenerator[Frame, None]:
        async with aclosing(source.messages(name)) as messages:
            async for message in messages:
                frame = put_frame([get_body(message)])
                yield frame
                await self.pace.spend(len(frame.body))

    async def _retain(self, this: Pass, *, removes: bool) -> None:
        """Have the seal that is there, and remove what was removed there, as a retention does."""
        await self._end_own(this)
        await self._begin(this, Purpose.RETENTION)
        await self._replace_seal(this)
        if not removes:
            return
        await self._remove_snapshots(this)
        if this.own.session is None:
            raise AssertionError("a retention has a session")
        await retention.mark(self.db, this.own.claims, this.own.session, uuid4())
        for kind in _REMOVED:
            if this.kept and kind is not ObjectKind.KEY:
                # What is held here may need what would go: nobody can tell without the vault's key.
                continue
            async with aclosing(self._gone(this, kind)) as pages:
                async for names in pages:
                    this.kept += len(
                        await retention.condemn(self.db, this.own.claims, this.own.session, names, self.brake)
                    )

    async def _remove_snapshots(self, this: Pass) -> None:
        if this.own.session is None:
            raise AssertionError("a retention has a session")
        async with aclosing(self._gone(this, ObjectKind.SNAPSHOT)) as pages:
            async for names in pages:
                for name in names:
                    try:
                        await retention.remove(self.db, this.own.claims, this.own.session, name, self.brake)
                    except (Held, SnapshotInUse):
                        this.kept += 1

    async def _gone(self, this: Pass, kind: ObjectKind) -> AsyncGenerator[list[ObjectName], None]:
        """What is live here, and not to be seen there, in pages."""
        after = b""
        while True:
            async with self.db.worker() as unit:
                page = await following.live_page(unit, this.one.bucket_id, kind, after, _PAGE)
            if not page:
                return
            after = page[-1]
            gone = await this.source.gone(kind, page)
            if gone:
                yield [ObjectName(kind, digest.hex()) for digest in gone]

    async def _replace_seal(self, this: Pass) -> None:
        here, there = await self._seal_here(this.one), this.there.seal_sha256
        if this.own.session is None or here in (None, there) or not there:
            return
        async with aclosing(self._frames(this.source, SEAL)) as frames:
            body = await _all_of(frames)
        await self.puts.replace_seal(Put(this.own.claims, this.own.session, SEAL, there, len(body)), body, here or b"")

    async def _begin(self, this: Pass, purpose: Purpose) -> None:
        session = uuid4()
        await begin_session(self.db, this.one, session, purpose)
        this.own.session = session

    async def _end(self, this: Pass) -> None:
        """End both sessions; one that cannot be ended now is by its silence."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(self._end_own(this), this.source.end())
        except (ServiceError, TimeoutError) as error:
            structlog.get_logger("storage").info("a session of a following is left", cause=repr(error))

    async def _end_own(self, this: Pass) -> None:
        if this.own.session is not None:
            session, this.own.session = this.own.session, None
            await sessions.end(self.db, this.own.claims, session)

    async def _hold(self, own: Own) -> None:
        """Keep the lease and the session here until one of them is lost."""
        while True:
            await self.clock.sleep(min(_RENEW_SECONDS, self.beat_seconds))
            async with self.db.worker() as unit:
                if not await following.renew(unit, own.one, LEASE_SECONDS):
                    raise SourceRefused(detail="it is not followed any more, or another node is at work on it")
            if session := own.session:
                try:
                    await sessions.beat(self.db, own.claims, session)
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
        if there.cluster != one.source:
            raise SourceRefused(detail=f"its nodes are of cluster {there.cluster} now, and {one.source} is followed")
        if (there.tenant_id, there.user_id) != (str(one.tenant_id), str(one.user_id)):
            raise SourceRefused(detail="the bucket there belongs to another user")
        if there.is_following or there.follows not in ("", self.cluster):
            raise SourceRefused(detail=f"the bucket is cluster {there.follows}'s to write to: follow that one")
        async with self.db.worker() as unit:
            config = await following.root_file(unit, one.bucket_id, CONFIG.kind)
        if config is not None and there.config_sha256 != config:
            raise SourceRefused(detail="the bucket there has the config of another vault, or has lost its own")

    async def _seal_here(self, one: Claimed) -> bytes | None:
        async with self.db.worker() as unit:
            return await following.root_file(unit, one.bucket_id, SEAL.kind)

    def _claims(self, one: Claimed) -> VaultClaims:
        return VaultClaims(one.tenant_id, one.user_id, NOBODY, one.bucket_id, self.cluster, frozenset(Scope), 0, b"")


async def _all_of(frames: AsyncGenerator[Frame, None]) -> bytes:
    return b"".join([bytes(frame.body) async for frame in frames])
