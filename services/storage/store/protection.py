"""What protects a bucket from those who may remove, as a worker reads and writes it: basket, object lock, brake."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from services.common.database import Unit
from services.storage.store.buckets import BucketState
from services.storage.store.objects import LOST
from services.storage.store.reaping import ORDER, kinds


@dataclass(frozen=True, slots=True)
class Protected:
    """A bucket and what protects it; `reaped` is when the last of what is gone for good was condemned."""

    id: UUID
    tenant_id: UUID
    user_id: UUID
    lock_days: int
    braked: datetime | None
    reaped: datetime | None


@dataclass(frozen=True, slots=True)
class Condemned:
    """An object in the waste basket; what is not known any more of the session that condemned it is None."""

    id: int
    rank: int
    kind: str
    sha256: bytes
    size: int
    condemned_seq: int
    removed: datetime
    kept_until: datetime
    session_id: UUID | None
    device_id: UUID | None
    purpose: str | None

    @property
    def name(self) -> ObjectName:
        return ObjectName(ObjectKind(self.kind), self.sha256.hex())


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that is to come back; `lost` when every home lacks its copy."""

    id: int
    kind: str
    sha256: bytes
    size: int
    lost: bool

    @property
    def name(self) -> ObjectName:
        return ObjectName(ObjectKind(self.kind), self.sha256.hex())


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to come back: `floors` has, in the reaper's order of kinds, the seq from which on all does; and names."""

    floors: Sequence[int | None]
    names: Sequence[ObjectName]

    def least(self, kind: ObjectKind) -> int | None:
        """Nothing of a kind that was condemned before this seq is wanted; None: nothing of it at all."""
        return 0 if any(name.kind is kind for name in self.names) else self.floors[ORDER.index(kind)]

    def parameters(self) -> dict[str, object]:
        """For the queries."""
        return {
            "kinds": kinds(),
            "floors": list(self.floors),
            "named_kinds": [name.kind.value for name in self.names],
            "named": [bytes.fromhex(name.id) for name in self.names],
        }


@dataclass(frozen=True, slots=True)
class Sum:
    """Objects of a kind in the basket; `fate` is `comes back`, `stays`, or `leaving`."""

    kind: str
    fate: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Remover:
    """An open session that may condemn."""

    id: UUID
    purpose: str


_BUCKET = """
select id, tenant_id, user_id, lock_days, braked, reaped from buckets
where id = %(bucket)s and (%(tenant)s::uuid is null or tenant_id = %(tenant)s)
"""
_PAGE = """
select o.id, array_position(%(kinds)s, o.kind) as rank, o.kind, o.sha256, o.size, o.condemned_seq,
       coalesce(o.condemned, now()) as removed,
       greatest(coalesce(o.condemned, now()) + %(basket)s,
                o.created + make_interval(days => b.lock_days)) as kept_until,
       s.id as session_id, s.device_id, s.purpose
from objects o join buckets b on b.id = o.bucket_id left join sessions s on s.id = o.condemned_by
where o.bucket_id = %(bucket)s and o.state = 'condemned'
  and (array_position(%(kinds)s, o.kind), o.condemned_seq, o.id) > (%(rank)s, %(seq)s, %(id)s)
order by rank, o.condemned_seq, o.id limit %(limit)s
"""
# Whole sessions: a time that falls in the middle of a prune names no part of it alone.
_FIRST_SINCE = """
select min(o.condemned_seq) from objects o
where o.bucket_id = %(bucket)s and o.state = 'condemned' and (o.condemned >= %(since)s or o.condemned_by in (
    select r.condemned_by from objects r
    where r.bucket_id = %(bucket)s and r.state = 'condemned' and r.condemned >= %(since)s))
"""
_SEQ_OF = """
select o.state, o.condemned_seq from objects o
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = %(sha256)s
"""
# `floors` has, by the rank of a kind, the seq from which on all of it comes back; null: only what is named.
_WANTED = """
(o.condemned_seq >= (%(floors)s::bigint[])[array_position(%(kinds)s, o.kind)]
 or (o.kind, o.sha256) in (select * from unnest(%(named_kinds)s::text[], %(named)s::bytea[])))
"""
_SUMS = f"""
select o.kind, case when o.state = 'deleting' then 'leaving' when {_WANTED} then 'comes back' else 'stays' end as fate,
       count(*) as objects, sum(o.size)::bigint as bytes
from objects o where o.bucket_id = %(bucket)s and o.state <> 'live' group by o.kind, fate
"""  # noqa: S608 - constants
# What is no pack and lies nowhere whole stays in the basket; a pack comes back, as a lost one, for what lists it.
_STAYS = f"(o.kind <> 'data' and {LOST})"
_IN_BASKET = f"""
select o.id, o.kind, o.sha256, o.size, {LOST} as lost from objects o
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.state = 'condemned' and o.condemned_seq >= %(least)s
  and {_WANTED} and {_STAYS} = %(stays)s
order by o.condemned_seq limit %(limit)s
"""  # noqa: S608 - constants
_LOCKED = """
select o.sha256, o.created + make_interval(days => b.lock_days) as until
from objects o join buckets b on b.id = o.bucket_id
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = any(%(names)s) and o.state = 'live'
  and b.lock_days > 0 and o.created > now() - make_interval(days => b.lock_days)
  and not exists (select 1 from sessions s where s.id = %(session)s and s.id = o.created_by and s.purpose = 'retention')
"""
# What is stored anew before the old goes is not what the bucket had: by the session itself, and by retentions that were
# broken off before they removed the old, or have removed within the window, and so remember what there was before.
_STORED = """
(select coalesce(sum(o.size), 0)::bigint from objects o
 where o.kind = 'data' and o.state = 'live' and o.created_by = any(array(
    select %(session)s::uuid union all
    select s.id from sessions s join buckets b on b.id = s.bucket_id
    where s.bucket_id = %(bucket)s and s.purpose = 'retention' and s.id <> %(session)s
      and coalesce(s.last_removal, s.ended) > now() - %(window)s
      and s.opened > coalesce(b.released + %(window)s, '-infinity'))))
"""
_NOTE = f"""
update sessions set last_removal = now(),
    had_snapshots = case when last_removal > now() - %(window)s then greatest(had_snapshots, %(snapshots)s)
        else %(snapshots)s end,
    had_bytes = case when last_removal > now() - %(window)s and had_bytes >= %(bytes)s then had_bytes
        when last_removal > now() - %(window)s then greatest(had_bytes, %(bytes)s - {_STORED})
        else %(bytes)s - {_STORED} end
where id = %(session)s
"""  # noqa: S608 - constants
# In the order in which the reaper locks sessions, so that neither waits for the other.
_FORGET = """
update sessions set last_removal = null where id in (
    select id from sessions where bucket_id = %s and last_removal is not null order by id for update)
"""
_MADE = """
select o.sha256 from objects o join sessions s on s.id = o.created_by
where o.bucket_id = %s and o.kind = %s and o.sha256 = any(%s) and s.id = %s and s.purpose = 'retention'
"""


async def get(unit: Unit, bucket: UUID, tenant: UUID | None = None) -> Protected | None:
    async with unit.cursor(row_factory=class_row(Protected)) as cursor:
        await cursor.execute(_BUCKET, {"bucket": bucket, "tenant": tenant})
        return await cursor.fetchone()


async def page(
    unit: Unit, bucket: UUID, basket: timedelta, *, after: tuple[int, int, int], limit: int
) -> list[Condemned]:
    """What lies in the basket, from after a rank of kinds, a seq and an id."""
    rank, seq, key = after
    asked = {"bucket": bucket, "basket": basket, "kinds": kinds(), "rank": rank, "seq": seq, "id": key, "limit": limit}
    async with unit.cursor(row_factory=class_row(Condemned)) as cursor:
        await cursor.execute(_PAGE, asked)
        return await cursor.fetchall()


async def first_since(unit: Unit, bucket: UUID, since: datetime) -> int | None:
    """The seq of the first condemnation by a session that condemned something since a time; None: there is none."""
    cursor = await unit.execute(_FIRST_SINCE, {"bucket": bucket, "since": since})
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def standing(unit: Unit, bucket: UUID, name: ObjectName) -> tuple[str, int | None] | None:
    """State and condemnation of an object that its SHA-256 names; None if there is none."""
    asked = {"bucket": bucket, "kind": name.kind.value, "sha256": bytes.fromhex(name.id)}
    cursor = await unit.execute(_SEQ_OF, asked)
    row = await cursor.fetchone()
    return None if row is None else (str(row[0]), row[1])


async def sums(unit: Unit, bucket: UUID, asked: Wanted) -> list[Sum]:
    async with unit.cursor(row_factory=class_row(Sum)) as cursor:
        await cursor.execute(_SUMS, {"bucket": bucket, **asked.parameters()})
        return await cursor.fetchall()


async def candidates(unit: Unit, bucket: UUID, kind: ObjectKind, asked: Wanted, limit: int) -> list[Candidate]:
    """Objects of a kind that are to come back and can, the oldest condemnation first."""
    return await _in_basket(unit, bucket, kind, asked, limit, stays=False)


async def damaged(unit: Unit, bucket: UUID, kind: ObjectKind, asked: Wanted, limit: int) -> list[Candidate]:
    """Objects of a kind that are to come back and cannot: no home has a whole copy. Packs are none of these."""
    return await _in_basket(unit, bucket, kind, asked, limit, stays=True)


async def _in_basket(
    unit: Unit, bucket: UUID, kind: ObjectKind, asked: Wanted, limit: int, *, stays: bool
) -> list[Candidate]:
    least = asked.least(kind)
    if least is None:
        return []
    async with unit.cursor(row_factory=class_row(Candidate)) as cursor:
        given = {"bucket": bucket, "kind": kind.value, "least": least, "limit": limit, "stays": stays}
        await cursor.execute(_IN_BASKET, {**given, **asked.parameters()})
        return await cursor.fetchall()


async def condemned_among(unit: Unit, objects: Sequence[int]) -> list[int]:
    """Those that are condemned at this moment, and not being removed."""
    cursor = await unit.execute("select id from objects where id = any(%s) and state = 'condemned'", (list(objects),))
    return [int(row[0]) for row in await cursor.fetchall()]


async def remover(unit: Unit, bucket: UUID) -> Remover | None:
    """An open session that may condemn something beside an operator's restore; a restic may not."""
    async with unit.cursor(row_factory=class_row(Remover)) as cursor:
        await cursor.execute(
            "select id, purpose from sessions where bucket_id = %s and ended_seq is null"
            " and purpose = 'retention' order by opened_seq limit 1",
            (bucket,),
        )
        return await cursor.fetchone()


async def locked(
    unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes], session: UUID
) -> dict[bytes, datetime]:
    """Those of `names` that are live and younger than the bucket's lock, with the time at which it lets go of them.

    What the session itself has put, of a retention, is none of these: it may take back what it has just stored.
    """
    asked = {"bucket": bucket, "kind": kind.value, "names": list(names), "session": session}
    cursor = await unit.execute(_LOCKED, asked)
    return {bytes(row[0]): row[1] for row in await cursor.fetchall()}


async def made_among(unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes], session: UUID) -> set[bytes]:
    """Those of `names` that the session, of a retention, has put itself."""
    cursor = await unit.execute(_MADE, (bucket, kind.value, list(names), session))
    return {bytes(row[0]) for row in await cursor.fetchall()}


async def live_among(unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes]) -> tuple[int, int]:
    """Number and bytes of those of `names` that are live."""
    cursor = await unit.execute(
        "select count(*), coalesce(sum(size), 0)::bigint from objects"
        " where bucket_id = %s and kind = %s and sha256 = any(%s) and state = 'live'",
        (bucket, kind.value, list(names)),
    )
    row = await cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def note_removal(unit: Unit, bucket: BucketState, session: UUID, window: timedelta) -> None:
    """Remember that a session is about to remove something, and the most that the locked bucket had when it was.

    What it had longer ago than `window` before is forgotten; what `stored` answers is none of it.
    """
    asked = {"snapshots": bucket.live_snapshots, "bytes": bucket.live_bytes}
    await unit.execute(_NOTE, {**asked, "bucket": bucket.id, "session": session, "window": window})


async def stored(unit: Unit, bucket: UUID, session: UUID, window: timedelta) -> int:
    """Bytes of the live packs that a session has put, or another retention that removed, or ended, within `window`."""
    cursor = await unit.execute(f"select {_STORED}", {"bucket": bucket, "session": session, "window": window})
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def most_had(unit: Unit, bucket: UUID, window: timedelta) -> tuple[int, int]:
    """The most snapshots and bytes of packs that the bucket had when a session that removed within `window` did."""
    cursor = await unit.execute(
        "select coalesce(max(had_snapshots), 0), coalesce(max(had_bytes), 0) from sessions"
        " where bucket_id = %s and last_removal > now() - %s",
        (bucket, window),
    )
    row = await cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def set_brake(unit: Unit, bucket: UUID) -> None:
    await unit.execute("update buckets set braked = now() where id = %s", (bucket,))


async def release(unit: Unit, bucket: UUID) -> None:
    """Let go of the brake for a day, and forget what was removed before."""
    await unit.execute("update buckets set braked = null, released = now() where id = %s", (bucket,))
    await unit.execute(_FORGET, (bucket,))


async def set_lock(unit: Unit, bucket: UUID, days: int) -> None:
    await unit.execute("update buckets set lock_days = %s where id = %s", (days, bucket))
