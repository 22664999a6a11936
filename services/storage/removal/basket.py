"""What an operator brings back from the waste basket (docs/sessions.md, "What an operator brings back").

Kept true:
- it comes back through a session, an adoption without a device: while that is open the reaper takes nothing, and what
  has come back has an open user;
- packs before index files before snapshots, each kind when nothing of the one before is left to bring back, which is
  asked in the transaction that does so; and no retention is open at that moment, none is opened while the session is,
  and a restic that was open then removes nothing, so nobody condemns what these need by a list that is older than they
  are;
- nothing comes back but what was read whole, with its SHA-256, from whichever home; a pack of which no copy is whole
  comes back as a lost one;
- no snapshot comes back while an index file that it may need lies in the basket, be it that no copy of that is whole.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import structlog

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound, Unavailable
from services.storage.errors import Damaged, RemovalRunning, SessionOver
from services.storage.sessions.bodies import Seen
from services.storage.sessions.standing import require_leading
from services.storage.store import buckets, copies, objects, protection, sessions
from services.storage.store.protection import Candidate, Condemned, Protected, Sum, Wanted
from services.storage.store.reaping import ORDER
from services.storage.store.sessions import NOBODY
from services.storage.transfer.frames import get_body
from services.storage.transfer.gets import Gets, Part

MAX_NAMES = 100
# Packs come before what lists them, and these before the snapshots that need them.
_BACK = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT, ObjectKind.KEY)
# In one step: read and hashed in a few seconds also where a disk is slow.
_AT_ONCE = 100
_BYTES_AT_ONCE = 64 << 20
_NEVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to come back: all that was condemned at `from_seq` or later; or `names`, with all that they may need.

    A node cannot read what a snapshot reaches, so with one come all index files and packs condemned from then on; with
    an index file all packs. With `needed_alone` it is no more than these: index files and packs.
    """

    from_seq: int
    names: tuple[ObjectName, ...] = ()
    needed_alone: bool = False

    def asked(self) -> Wanted:
        """As the catalogue is asked."""
        named = {name.kind for name in self.names}
        everything = not self.names and not self.needed_alone
        needs_index = self.needed_alone or everything or ObjectKind.SNAPSHOT in named
        from_of = {
            ObjectKind.SNAPSHOT: everything,
            ObjectKind.INDEX: needs_index,
            ObjectKind.PACK: needs_index or ObjectKind.INDEX in named,
            ObjectKind.KEY: everything,
        }
        return Wanted([self.from_seq if from_of[kind] else None for kind in ORDER], self.names)


_NEEDED = Wish(0, needed_alone=True)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would bring back, leave in the basket, and comes too late for."""

    wish: Wish
    sums: list[Sum]
    bucket: Protected


@dataclass(slots=True)
class Step:
    """What one step has brought back; `damaged` are those of which no copy is whole.

    The last one tells again of all that stays: `held` are snapshots that stay as an index file is damaged, `gone` what
    was named and is being removed, or is removed by now.
    """

    restored: list[Candidate] = field(default_factory=list)
    damaged: list[ObjectName] = field(default_factory=list)
    held: list[ObjectName] = field(default_factory=list)
    gone: list[ObjectName] = field(default_factory=list)
    done: bool = False


async def page(
    db: Database,
    bucket: UUID,
    tenant: UUID | None,
    basket: timedelta,
    *,
    after: tuple[int, int, int],
    limit: int,
) -> tuple[Protected, list[Condemned]]:
    """The bucket, and what its basket holds from after a rank, a seq and an id. Raises NotFound."""
    async with db.worker() as unit:
        found = await _bucket(unit, bucket, tenant)
        return found, await protection.page(unit, bucket, basket, after=after, limit=limit)


async def plan(
    db: Database, bucket: UUID, tenant: UUID | None, since: datetime | None, names: Sequence[ObjectName]
) -> RestorePlan:
    """What can come back. Raises NotFound, and InvalidArgument for a name that is not in the basket."""
    if len(names) > MAX_NAMES or (names and since is not None):
        raise InvalidArgument(detail=f"Name up to {MAX_NAMES} objects, or a time.")
    async with db.worker() as unit:
        found = await _bucket(unit, bucket, tenant)
        seqs = [await _seq_of(unit, bucket, name) for name in names]
        from_seq = min((seq for seq in seqs if seq is not None), default=_NEVER if names else 0)
        if since is not None:
            from_seq = await protection.first_since(unit, bucket, since) or _NEVER
        wish = Wish(from_seq, tuple(names))
        return RestorePlan(wish, await protection.sums(unit, bucket, wish.asked()), found)


async def _seq_of(unit: Unit, bucket: UUID, name: ObjectName) -> int | None:
    """When it was condemned; None if it is live."""
    if name.kind not in _BACK:
        raise InvalidArgument(detail=f"{name} is never removed, so it does not come back.")
    found = await protection.standing(unit, bucket, name)
    if found is None or found[0] == "deleting":
        raise InvalidArgument(detail=f"{name} is not in the waste basket of this bucket: it is gone, or never was.")
    return found[1]


class Baskets:
    """Brings back what lies in the waste baskets, on any node of the cluster."""

    def __init__(self, db: Database, gets: Gets, cluster: str) -> None:
        self._db = db
        self._gets = gets
        self._cluster = cluster
        self._log = structlog.get_logger("storage")

    async def restore(self, bucket: UUID, tenant: UUID | None, session: UUID, wish: Wish) -> Step:
        """One step; the first opens the session, the last, which finds nothing left to do, ends it.

        Raises NotFound, RemovalRunning, SessionOver, and Unavailable when whole copies may lie on a node that is away.
        """
        found = await self.open(bucket, tenant, session)
        step = await self.bring_back(found, session, wish, await self.look(bucket, wish))
        self._log.info(
            "brought back from the waste basket",
            bucket=str(bucket),
            session=str(session),
            objects=len(step.restored),
            damaged=[str(name) for name in step.damaged],
        )
        return step

    async def bring_back_needed(self, bucket: UUID, session: UUID) -> AsyncGenerator[Step, None]:
        """Each step, in an adoption that is open, until nothing in the basket is needed by what comes from elsewhere.

        That is every pack, then every index file of which a copy is whole. Raises as `restore`.
        """
        async with self._db.worker() as unit:
            found = await _bucket(unit, bucket, None)
        while batch := await self.look(bucket, _NEEDED):
            yield await self.bring_back(found, session, _NEEDED, batch)

    async def lacks_index(self, bucket: UUID) -> bool:
        """Whether an index file lies in the basket of which no copy is whole."""
        async with self._db.worker() as unit:
            return bool(await protection.damaged(unit, bucket, ObjectKind.INDEX, _NEEDED.asked(), 1))

    async def open(self, bucket: UUID, tenant: UUID | None, session: UUID) -> Protected:
        """Open the session, or say that it lives. Answers the bucket."""
        async with self._db.worker() as unit:
            found = await _bucket(unit, bucket, tenant)
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            known = await sessions.get(unit, session)
            if state is None or (known is not None and (known.bucket_id, known.device_id) != (bucket, NOBODY)):
                raise NotFound(what="such session on this bucket")
            if known is None:
                require_leading(state)
                await _require_alone(unit, bucket)
                row = sessions.SessionRow(session, bucket, NOBODY, Purpose.ADOPT.value, None, state.seq + 1, None, 0, 0)
                await sessions.insert(unit, row, state.tenant_id, state.user_id)
                await buckets.set_seq(unit, bucket, state.seq + 1)
            elif not await sessions.beat(unit, session, bucket, NOBODY):
                raise SessionOver(session=session)
        return found

    async def look(self, bucket: UUID, wish: Wish) -> tuple[Candidate, ...]:
        """Some of the first kind of which something is to come back; none when nothing is."""
        async with self._db.worker() as unit:
            return await _next(unit, bucket, await _asked(unit, bucket, wish))

    async def bring_back(self, bucket: Protected, session: UUID, wish: Wish, batch: Sequence[Candidate]) -> Step:
        """Verify what was looked up, then have it live again; with nothing to do, end the session."""
        step = Step(done=not batch)
        whole = [candidate for candidate in batch if await self._is_whole(bucket, candidate)]
        step.damaged = [candidate.name for candidate in batch if candidate not in whole]
        # A pack without a whole copy too: what lists it is to come back, and names nothing that is not there.
        back = [candidate for candidate in batch if candidate in whole or candidate.kind == ObjectKind.PACK]
        async with self._db.worker() as unit:
            state = await _opened(unit, bucket.id, session)
            if step.done:
                await _tell_what_stays(unit, bucket.id, wish, step)
                await sessions.end(unit, session, state.seq + 1)
            else:
                await _require_alone(unit, bucket.id)
            if batch and not await _has_to_wait(
                unit, bucket.id, batch[0].name.kind, await _asked(unit, bucket.id, wish)
            ):
                live = set(await protection.condemned_among(unit, [one.id for one in back]))
                await objects.use(unit, sorted(live), session, state.tenant_id, state.user_id)
                step.restored = [one for one in whole if one.id in live]
            await buckets.set_seq(unit, bucket.id, state.seq + 1)
        return step

    async def _is_whole(self, bucket: Protected, candidate: Candidate) -> bool:
        """Whether some home has a copy with the right SHA-256. Copies that turn out not to be are missing then.

        A read that gave something before it failed says of one copy alone that it is not whole: the others are asked.
        """
        if candidate.lost:
            return False
        claims = VaultClaims(
            bucket.tenant_id, bucket.user_id, NOBODY, bucket.id, self._cluster, frozenset({Scope.READ}), 0, b""
        )
        seen = Seen(candidate.id, bytes(candidate.sha256), candidate.size, lacking=False)
        async with self._db.worker() as unit:
            homes = [home.node_id for home in await buckets.homes(unit, bucket.id, 0)]
        for _ in range(len(homes) + 1):
            hashed, is_begun = sha256(), False
            try:
                part = Part(0, candidate.size, candidate.size)
                async with aclosing(self._gets.read(claims, candidate.name, seen, part)) as messages:
                    async for message in messages:
                        is_begun = True
                        hashed.update(get_body(message))
                if hashed.digest() == seen.sha256:
                    return True
            except Damaged as error:
                if not is_begun:
                    self._log.error(
                        "no copy is whole", bucket=str(bucket.id), name=str(candidate.name), cause=str(error)
                    )
                    async with self._db.worker() as unit:
                        await copies.add_named(unit, bucket.id, candidate.name, homes)
                    return False
            # The copy here comes last now, and only if a second look finds it whole.
            seen = replace(seen, lacking=True)
        raise Unavailable(what=f"{candidate.name} (its copies changed while they were read)")


async def _bucket(unit: Unit, bucket: UUID, tenant: UUID | None) -> Protected:
    found = await protection.get(unit, bucket, tenant)
    if found is None:
        raise NotFound(what=f"bucket {bucket}")
    return found


async def _asked(unit: Unit, bucket: UUID, wish: Wish) -> Wanted:
    """As the catalogue is asked: from when the names were condemned, should the caller say a later seq."""
    found = [await protection.standing(unit, bucket, name) for name in wish.names]
    seqs = [one[1] for one in found if one is not None and one[1] is not None]
    return replace(wish, from_seq=min([wish.from_seq, *seqs])).asked()


async def _next(unit: Unit, bucket: UUID, asked: Wanted) -> tuple[Candidate, ...]:
    for kind in _BACK:
        if await _is_held(unit, bucket, kind, asked):
            continue
        found = await protection.candidates(unit, bucket, kind, asked, _AT_ONCE)
        batch: list[Candidate] = []
        for one in found:
            if batch and sum(other.size for other in batch) + one.size > _BYTES_AT_ONCE:
                break
            batch.append(one)
        if batch:
            return tuple(batch)
    return ()


async def _has_to_wait(unit: Unit, bucket: UUID, kind: ObjectKind, asked: Wanted) -> bool:
    """Whether something of a kind that comes first was condemned meanwhile, and is next; or `kind` is held."""
    for first in _BACK[: _BACK.index(kind)]:
        if await protection.candidates(unit, bucket, first, asked, 1):
            return True
    return await _is_held(unit, bucket, kind, asked)


async def _is_held(unit: Unit, bucket: UUID, kind: ObjectKind, asked: Wanted) -> bool:
    """Whether a kind stays because what it may need is damaged: snapshots, for the sake of an index file."""
    return kind is ObjectKind.SNAPSHOT and bool(await protection.damaged(unit, bucket, ObjectKind.INDEX, asked, 1))


async def _tell_what_stays(unit: Unit, bucket: UUID, wish: Wish, step: Step) -> None:
    asked = await _asked(unit, bucket, wish)
    for name in wish.names:
        found = await protection.standing(unit, bucket, name)
        if found is None or found[0] == "deleting":
            step.gone.append(name)
    for kind in (ObjectKind.INDEX, ObjectKind.SNAPSHOT, ObjectKind.KEY):
        step.damaged += [one.name for one in await protection.damaged(unit, bucket, kind, asked, _AT_ONCE)]
    held = await protection.candidates(unit, bucket, ObjectKind.SNAPSHOT, asked, _AT_ONCE)
    step.held = [one.name for one in held]


async def _opened(unit: Unit, bucket: UUID, session: UUID) -> buckets.BucketState:
    """The bucket, locked, while the session is open. Raises SessionOver."""
    state = await buckets.lock(unit, bucket)
    row = await sessions.get(unit, session)
    if state is None or row is None or row.ended_seq is not None:
        raise SessionOver(session=session)
    return state


async def _require_alone(unit: Unit, bucket: UUID) -> None:
    """Raises RemovalRunning while a session is open that may condemn what others need."""
    remover = await protection.remover(unit, bucket)
    if remover is not None:
        raise RemovalRunning(purpose=remover.purpose, session=remover.id)
