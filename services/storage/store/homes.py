"""Which nodes are homes of a bucket, and how one becomes a home or ceases to be one.

Kept true: the homes of a bucket change only while its row is locked; whoever becomes a home lacks, from that moment on,
every object of the bucket: until each of them is entered as missing, page by page, the home is `joining`, and counts as
having nothing; what is said of a copy is said of one on a home (foreign keys of migration 0012).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectName
from services.common.database import Unit
from services.storage.store.copies import name_of

# Objects that are entered as missing under one lock of a bucket, for which puts wait: docs/decisions/placement.md.
PAGE = 500


@dataclass(frozen=True, slots=True)
class HomeState:
    """A home as it is judged when others are to do without it, or with it.

    `joining`: not all that it lacks is entered. `lacks`: some copy is missing; `lacks_whole`: some of which another
    home has one; `can_fetch`: one that lives, as its own node does. `removes`: it has copies of objects to remove that
    are on their way out. `fits`: its node has room for what the bucket has that it lacks, or a disk of it is away and
    nobody knows. `outgrown`: it is the largest bucket of its node, of which no disk has room for much more.
    """

    node_id: str
    state: str
    live: bool
    reconciled: bool
    joining: bool
    leaving: datetime | None
    compared: datetime | None
    waits: str
    lacks: bool
    lacks_whole: bool
    can_fetch: bool
    removes: bool
    fits: bool
    outgrown: bool
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Clearing:
    """What asks a former home to remove its files; a home that leaves once more gets another `id`."""

    bucket_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class OnlyCopy:
    """An object that no other home is known to have whole."""

    bucket_id: UUID
    kind: str
    sha256: bytes

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, self.sha256)


_LACKED = "m.bucket_id = h.bucket_id and m.node_id = h.node_id and o.state <> 'deleting'"
_LIVE = "last_seen > now() - make_interval(secs => %(silent)s)"
# Of a home that lacks something: what has it.
_SOURCE = f"""
select 1 from homes other join nodes s on s.id = other.node_id
where other.bucket_id = h.bucket_id and other.node_id <> h.node_id and not other.joining and (h.joining or exists (
    select 1 from missing_copies m join objects o on o.id = m.object_id where {_LACKED} and not exists (
    select 1 from missing_copies l where l.object_id = m.object_id and l.node_id = other.node_id)))
"""  # noqa: S608 - constants
# So much more of a bucket, or four packs, its node has no room for; while it has another home already that is to take
# its place, four times as much, so that some removals do not end that in the middle.
_GROWS = "greatest(b.bytes / 64, 64 << 20)"
# A node with a disk that is away says nothing of the room that it has when that is back, which is waited for.
_ALL_THERE = "not jsonb_path_exists(n.disks, '$[*] ? (@.there == false)')"
_OUTGROWN = f"""
n.state = 'serving' and b.bytes > 0 and {_ALL_THERE} and case
    when (select count(*) from homes o where o.bucket_id = b.id) > b.copies then n.free_bytes < 4 * {_GROWS}
    else n.free_bytes < {_GROWS}
        and not exists (select 1 from clearings c where c.node_id = n.id)
        and not exists (select 1 from homes o join buckets x on x.id = o.bucket_id
            where o.node_id = n.id and (x.bytes, x.id) > (b.bytes, b.id))
end
"""  # noqa: S608 - constants
_STATES = f"""
select h.node_id, n.state, n.{_LIVE} as live, n.reconciled,
    h.joining, h.leaving, h.compared, h.waits, n.free_bytes,
    h.joining or exists (select 1 from missing_copies m join objects o on o.id = m.object_id where {_LACKED}) as lacks,
    exists ({_SOURCE}) as lacks_whole,
    n.{_LIVE} and exists ({_SOURCE} and s.{_LIVE}) as can_fetch,
    exists (select 1 from removals r where r.bucket_id = h.bucket_id and r.node_id = h.node_id) as removes,
    not {_ALL_THERE} or n.free_bytes >= b.bytes or n.free_bytes >= (
        select coalesce(sum(o.size), 0) from missing_copies m join objects o on o.id = m.object_id where {_LACKED}
    ) as fits,
    {_OUTGROWN} as outgrown
from homes h join nodes n on n.id = h.node_id join buckets b on b.id = h.bucket_id
where h.bucket_id = %(bucket)s order by h.node_id
"""  # noqa: S608 - constants
# The turns in which buckets are looked at: those that have lost a home; those that have the homes which they are to
# have, and wait for copies or for a home to leave; those that have still to get others.
SHORT, SUPPLIED, WAITING = 0, 1, 2
_SERVING = """
(select count(*) from homes h join nodes n on n.id = h.node_id where h.bucket_id = b.id and n.state = 'serving')
"""
# What a rescan has entered gets its homes from that first (store/rescans.py).
_UNSETTLED = f"""
with outgrown as materialized (
    select distinct on (n.id) b.id from nodes n join homes h on h.node_id = n.id join buckets b on b.id = h.bucket_id
    where n.state = 'serving' and b.bytes > 0 and n.free_bytes < {_GROWS} and {_ALL_THERE}
      and not exists (select 1 from clearings c where c.node_id = n.id)
    order by n.id, b.bytes desc, b.id desc
)
select turn, id from (
    select b.id, case when (select count(*) from homes h where h.bucket_id = b.id) < b.copies then {SHORT}
        when {_SERVING} >= b.copies then {SUPPLIED} else {WAITING} end as turn
    from buckets b
    where b.braked is distinct from b.created and ({_SERVING} <> b.copies
        or b.id in (select id from outgrown) or exists (
        select 1 from homes h join nodes n on n.id = h.node_id
        where h.bucket_id = b.id and (n.state <> 'serving' or h.leaving is not null or h.waits <> '')))
) as unsettled where (turn, id) > (%s, %s) order by turn, id limit %s
"""  # noqa: S608 - constants
# What a node is still to fetch takes its room too.
_ROOMS = """
select n.id, (n.free_bytes - coalesce(lacked.bytes, 0) - (
    select coalesce(sum(b.bytes), 0) from homes h join buckets b on b.id = h.bucket_id
    where h.node_id = n.id and h.joining))::bigint
from nodes n left join (
    select m.node_id, sum(o.size) as bytes from missing_copies m join objects o on o.id = m.object_id
    join homes h on h.bucket_id = m.bucket_id and h.node_id = m.node_id and not h.joining
    group by m.node_id) as lacked on lacked.node_id = n.id
where n.state = 'serving' and n.reconciled and n.last_seen > now() - make_interval(secs => %s)
"""
_JOIN = """
insert into homes (bucket_id, node_id, tenant_id, user_id, joining)
select b.id, %(node)s, b.tenant_id, b.user_id, true from buckets b
where b.id = %(bucket)s
  and not exists (select 1 from clearings c where c.bucket_id = b.id and c.node_id = %(node)s)
on conflict do nothing
"""
_ENTERED = """
select node_id, entered_kind, entered_sha256 from homes where bucket_id = %s and joining order by node_id limit 1
"""
# What is put meanwhile is entered by its put (store/objects.py).
_ENTER = """
with page as (
    select id, bucket_id, tenant_id, user_id, kind, sha256 from objects
    where bucket_id = %(bucket)s and (kind, sha256) > (%(kind)s, %(sha256)s) and state <> 'deleting'
    order by kind, sha256 limit %(limit)s
), lacking as (
    insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)
    select id, %(node)s, bucket_id, tenant_id, user_id from page on conflict do nothing
), entered as (
    select count(*) as objects, coalesce(max(kind), %(kind)s) as kind,
        coalesce((select sha256 from page order by kind desc, sha256 desc limit 1), %(sha256)s) as sha256
    from page
)
update homes set joining = entered.objects = %(limit)s, entered_kind = entered.kind, entered_sha256 = entered.sha256
from entered where bucket_id = %(bucket)s and node_id = %(node)s
"""
_LEAVE = """
with former as (
    delete from homes where bucket_id = %s and node_id = %s returning bucket_id, node_id, tenant_id, user_id
)
insert into clearings (bucket_id, node_id, tenant_id, user_id)
select bucket_id, node_id, tenant_id, user_id from former
"""
_TO_COMPARE = """
select h.bucket_id, max(l.leaving) from homes h
join homes l on l.bucket_id = h.bucket_id and l.node_id <> h.node_id and h.compared is distinct from l.leaving
where h.node_id = %s and not h.joining and l.leaving is not null group by h.bucket_id order by h.bucket_id
"""
_MARK = """
update homes set compared = null,
    leaving = case when node_id = %(node)s or leaving is not null then now() end
where bucket_id = %(bucket)s
"""
_ONLY = """
from homes h join objects o on o.bucket_id = h.bucket_id and o.state <> 'deleting'
where h.node_id = %(node)s and not h.joining and (%(bucket)s::uuid is null or h.bucket_id = %(bucket)s)
  and not exists (
    select 1 from homes other join nodes n on n.id = other.node_id
    where other.bucket_id = h.bucket_id and other.node_id <> h.node_id and not other.joining
    and n.reconciled and n.last_seen > now() - make_interval(secs => %(silent)s)
    and not exists (select 1 from missing_copies m where m.object_id = o.id and m.node_id = other.node_id))
"""


async def home_nodes(unit: Unit, bucket: UUID) -> frozenset[str]:
    """The nodes that are homes of a bucket, whose row is locked, but for those that are joining."""
    cursor = await unit.execute("select node_id from homes where bucket_id = %s and not joining", (bucket,))
    return frozenset(str(row[0]) for row in await cursor.fetchall())


async def states(unit: Unit, bucket: UUID, silent_seconds: float) -> list[HomeState]:
    """The homes of a bucket, whose row is locked."""
    async with unit.cursor(row_factory=class_row(HomeState)) as cursor:
        await cursor.execute(_STATES, {"bucket": bucket, "silent": silent_seconds})
        return await cursor.fetchall()


async def unsettled(unit: Unit, after: tuple[int, UUID], limit: int) -> list[tuple[int, UUID]]:
    """Buckets with a home that is to go, or was until just now, or with more or fewer homes than they are to have.

    Also those that outgrow a home. By their turns and ids, from after a turn and an id.
    """
    cursor = await unit.execute(_UNSETTLED, (*after, limit))
    return [(int(row[0]), row[1]) for row in await cursor.fetchall()]


async def joining(unit: Unit) -> list[UUID]:
    """Buckets with a home of which not all that it lacks is entered."""
    cursor = await unit.execute("select distinct bucket_id from homes where joining order by bucket_id")
    return [row[0] for row in await cursor.fetchall()]


async def rooms(unit: Unit, silent_seconds: float) -> dict[str, int]:
    """The nodes that can become homes, and the bytes that they have room for. Takes a look at all that is missing."""
    cursor = await unit.execute(_ROOMS, (silent_seconds,))
    return {str(row[0]): int(row[1]) for row in await cursor.fetchall()}


async def join(unit: Unit, bucket: UUID, node: str) -> bool:
    """Make a node a home that lacks everything: call `enter_page` until all is entered, now or in later transactions.

    False if it is one, or has files of its last time as one to remove. The bucket's row is locked.
    """
    cursor = await unit.execute(_JOIN, {"bucket": bucket, "node": node})
    return cursor.rowcount == 1


async def may_enter(unit: Unit, bucket: UUID) -> bool:
    """Whether nobody else is at a page of the bucket; nobody will be until the transaction ends."""
    cursor = await unit.execute(
        "select pg_try_advisory_xact_lock(hashtext('joining homes'), hashtext(%s::text))", (bucket,)
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def enter_page(unit: Unit, bucket: UUID) -> bool:
    """Enter the next objects that a home of the bucket lacks which is joining. False if there is no such home any more.

    The bucket's row is locked.
    """
    cursor = await unit.execute(_ENTERED, (bucket,))
    row = await cursor.fetchone()
    if row is None:
        return False
    node, kind, sha256 = row
    await unit.execute(_ENTER, {"bucket": bucket, "node": node, "kind": kind, "sha256": sha256, "limit": PAGE})
    return True


async def leave(unit: Unit, bucket: UUID, node: str) -> None:
    """Let a node be no home any more; it is to remove its files."""
    await unit.execute(_LEAVE, (bucket, node))


async def drop(unit: Unit, bucket: UUID, node: str) -> None:
    """As `leave`, of a node that is gone for good."""
    await unit.execute("delete from homes where bucket_id = %s and node_id = %s", (bucket, node))


async def say_leaving(unit: Unit, bucket: UUID, node: str, *, leaving: bool) -> None:
    """The home waits only for the other ones to compare their disks, from now on; or not any more.

    One mark holds for all homes of a bucket that are leaving, and what was compared for an earlier one is forgotten.
    """
    await unit.execute(
        _MARK if leaving else "update homes set leaving = null where bucket_id = %(bucket)s and node_id = %(node)s",
        {"bucket": bucket, "node": node},
    )


async def say_waits(unit: Unit, bucket: UUID, node: str, why: str) -> None:
    await unit.execute("update homes set waits = %s where bucket_id = %s and node_id = %s", (why, bucket, node))


async def to_compare(unit: Unit, node: str) -> list[tuple[UUID, datetime]]:
    """Buckets of which another home is leaving, and waits for the node to compare its disk, with the mark of that."""
    cursor = await unit.execute(_TO_COMPARE, (node,))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def compared(unit: Unit, bucket: UUID, node: str, mark: datetime) -> None:
    """The node has compared its disk since it saw the mark, and lacks nothing of the bucket that it does not know."""
    await unit.execute("update homes set compared = %s where bucket_id = %s and node_id = %s", (mark, bucket, node))


async def to_clear(unit: Unit, node: str) -> list[Clearing]:
    """Buckets that the node is a former home of, and has files of."""
    async with unit.cursor(row_factory=class_row(Clearing)) as cursor:
        await cursor.execute("select bucket_id, id from clearings where node_id = %s order by bucket_id", (node,))
        return await cursor.fetchall()


async def clearing_of(unit: Unit, bucket: UUID, node: str) -> Clearing | None:
    async with unit.cursor(row_factory=class_row(Clearing)) as cursor:
        await cursor.execute(
            "select bucket_id, id from clearings where bucket_id = %s and node_id = %s", (bucket, node)
        )
        return await cursor.fetchone()


async def cleared(unit: Unit, bucket: UUID, node: str) -> None:
    """The node has no file of the bucket any more. The bucket's row is locked."""
    await unit.execute("delete from clearings where bucket_id = %s and node_id = %s", (bucket, node))


async def only_copies(
    unit: Unit, node: str, bucket: UUID | None, limit: int, silent_seconds: float
) -> tuple[int, list[OnlyCopy]]:
    """Objects of one bucket or all of the node that no other home has whole: how many, and the first of them.

    A home counts whose node lives, and has compared its disks.
    """
    asked = {"node": node, "bucket": bucket, "limit": limit, "silent": silent_seconds}
    cursor = await unit.execute("select count(*) " + _ONLY, asked)
    row = await cursor.fetchone()
    async with unit.cursor(row_factory=class_row(OnlyCopy)) as named:
        await named.execute(
            "select o.bucket_id, o.kind, o.sha256 " + _ONLY + " order by o.bucket_id, o.kind, o.sha256 limit %(limit)s",
            asked,
        )
        return int(row[0]) if row else 0, await named.fetchall()


async def removing(unit: Unit, bucket: UUID, node: str) -> list[int]:
    """Objects of which the node has copies to remove."""
    cursor = await unit.execute("select object_id from removals where bucket_id = %s and node_id = %s", (bucket, node))
    return [int(row[0]) for row in await cursor.fetchall()]


async def sizes(unit: Unit, node: str, among: Sequence[UUID]) -> list[tuple[UUID, int]]:
    """Those of some buckets that the node is a home of, and the bytes of a copy of each, the largest first."""
    cursor = await unit.execute(
        "select b.id, b.bytes from homes h join buckets b on b.id = h.bucket_id"
        " where h.node_id = %s and h.bucket_id = any(%s) order by b.bytes desc, b.id",
        (node, list(among)),
    )
    return [(row[0], int(row[1])) for row in await cursor.fetchall()]
