"""Rows of what was verified when, and of the scrubs that an operator has asked for; all as a worker.

Kept true: what is being removed is never verified, and its rows hold up nobody: objects that another transaction has
locked are passed over, and entered or verified the next time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectName
from services.common.database import Unit
from services.storage.store.copies import name_of

# Where there are more a backup is told so, and reserves every pack that it counts on.
LOST_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class DueCopy:
    """A copy that a node is to read."""

    object_id: int
    bucket_id: UUID
    kind: str
    sha256: bytes
    size: int

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, self.sha256)


@dataclass(frozen=True, slots=True)
class Scrub:
    """What was asked of one home; `left` are copies that it has still to read, as far as they are entered."""

    bucket_id: UUID
    node_id: str
    asked: datetime
    entered: bool
    copies: int
    bytes: int
    damaged: int
    done: datetime | None
    left: int = 0


@dataclass(slots=True)
class Read:
    """What came of copies of one bucket: ids of the objects that are whole, the bytes of all, and how many are not."""

    whole: list[int] = field(default_factory=list)
    bytes: int = 0
    damaged: int = 0

    @property
    def copies(self) -> int:
        return len(self.whole) + self.damaged


_ENTER = """
with page as (
    select o.id, o.bucket_id, o.tenant_id, o.user_id, o.created
    from objects o join homes h on h.bucket_id = o.bucket_id and h.node_id = %(node)s and not h.joining
    where o.id > %(after)s and o.state <> 'deleting' {of_bucket}
    order by o.id limit %(limit)s for key share of o, h skip locked
), entered as (
    insert into verified_copies (object_id, node_id, bucket_id, tenant_id, user_id, verified)
    select id, %(node)s, bucket_id, tenant_id, user_id, created from page on conflict do nothing
)
select max(id) from page
"""
_ENTER_ALL = _ENTER.format(of_bucket="")
_ENTER_BUCKET = _ENTER.format(of_bucket="and o.bucket_id = %(bucket)s")
# What is known to be missing is read when it has been healed.
_TO_READ = """
v.node_id = %(node)s and v.verified < {before}
and not exists (select 1 from missing_copies m where m.object_id = v.object_id and m.node_id = v.node_id)
"""
_COLUMNS = "v.object_id, v.bucket_id, o.kind, o.sha256, o.size"
_OLDEST = f"""
select {_COLUMNS} from verified_copies v join objects o on o.id = v.object_id and o.state <> 'deleting'
where {_TO_READ.format(before="now() - %(kept)s::interval")}
  and v.bucket_id <> all(%(without)s) order by v.verified limit %(limit)s
"""  # noqa: S608 - constants
_OLDEST_OF_BUCKET = f"""
select {_COLUMNS} from verified_copies v join objects o on o.id = v.object_id and o.state <> 'deleting'
where v.bucket_id = %(bucket)s and {_TO_READ.format(before="%(asked)s")} order by v.verified limit %(limit)s
"""  # noqa: S608 - constants
_VERIFIED = """
insert into verified_copies (object_id, node_id, bucket_id, tenant_id, user_id, verified)
select o.id, h.node_id, o.bucket_id, o.tenant_id, o.user_id, {when}
from objects o join homes h on h.bucket_id = o.bucket_id and h.node_id = %(node)s
where o.id = any(%(objects)s) order by o.id for key share of o, h skip locked
on conflict (object_id, node_id) do update set verified = {kept}
"""
# Of the statement and not of the transaction, which may have waited for _ENTERING since it began.
_NOW_VERIFIED = _VERIFIED.format(when="statement_timestamp()", kept="statement_timestamp()")
_NEVER_VERIFIED = _VERIFIED.format(when="to_timestamp(0)", kept="verified_copies.verified")
# What was read is entered either before a scrub is asked for, and is read again for it, or after, and counts for it.
_ASKING = "select pg_advisory_xact_lock(hashtext('scrubs that are asked for'))"
_ENTERING = "select pg_advisory_xact_lock_shared(hashtext('scrubs that are asked for'))"
_ASK = """
insert into scrubs (bucket_id, node_id, tenant_id, user_id, asked)
select h.bucket_id, h.node_id, h.tenant_id, h.user_id, statement_timestamp() from homes h
where not h.joining and (%(bucket)s::uuid is null or h.bucket_id = %(bucket)s) for key share of h
on conflict (bucket_id, node_id)
do update set asked = excluded.asked, entered = false, copies = 0, bytes = 0, damaged = 0, done = null
"""
_SCRUB = "s.bucket_id, s.node_id, s.asked, s.entered, s.copies, s.bytes, s.damaged, s.done"
_NEXT = f"""
select {_SCRUB} from scrubs s where s.node_id = %s and s.done is null and s.bucket_id <> all(%s)
order by s.asked limit 1
"""  # noqa: S608 - constants
_LEFT = f"""
(select count(*) from verified_copies v where v.bucket_id = s.bucket_id and s.done is null
 and {_TO_READ.format(before="s.asked").replace("%(node)s", "s.node_id")})
"""  # noqa: S608 - constants
_PAGE = f"""
select {_SCRUB}, {_LEFT} as left from scrubs s
where (%(bucket)s::uuid is null or s.bucket_id = %(bucket)s)
  and (%(after_bucket)s::uuid is null or (s.bucket_id, s.node_id) > (%(after_bucket)s, %(after_node)s))
order by s.bucket_id, s.node_id limit %(limit)s
"""  # noqa: S608 - constants
_READ_ONES = """
update scrubs set copies = copies + %s, bytes = bytes + %s, damaged = damaged + %s
where bucket_id = %s and node_id = %s and done is null
"""
# On every home; a bucket without homes has no copies that could be missing.
_LOST = """
from missing_copies m join objects o on o.id = m.object_id and o.state <> 'deleting'
join homes j on j.bucket_id = m.bucket_id and j.node_id = m.node_id and not j.joining
where {of_bucket} group by m.object_id, o.bucket_id, o.kind, o.sha256
having count(*) >= (select count(*) from homes h where h.bucket_id = o.bucket_id and not h.joining)
"""
_LOST_OF_ALL = (
    "select bucket_id, count(*) from (select o.bucket_id "  # noqa: S608 - constants
    + _LOST.format(of_bucket="true")
    + ") as lost group by bucket_id"
)
_LOST_PACKS = (
    "select o.sha256 "
    + _LOST.format(of_bucket="m.bucket_id = %s and o.kind = 'data' and o.state = 'live'")
    + " order by m.object_id limit %s"
)


async def enter(unit: Unit, node: str, bucket: UUID | None, after: int, limit: int) -> int | None:
    """Enter copies of the node, of one bucket or all, that have no row yet, from after an object's id.

    Answers the id to go on from, None when there are no more.
    """
    asked = {"node": node, "bucket": bucket, "after": after, "limit": limit}
    cursor = await unit.execute(_ENTER_BUCKET if bucket else _ENTER_ALL, asked)
    row = await cursor.fetchone()
    return row[0] if row else None


async def oldest(unit: Unit, node: str, kept: timedelta, without: Sequence[UUID], limit: int) -> list[DueCopy]:
    """Copies of the node, but of some buckets, that were verified longer than `kept` ago, the oldest first."""
    async with unit.cursor(row_factory=class_row(DueCopy)) as cursor:
        await cursor.execute(_OLDEST, {"node": node, "kept": kept, "without": list(without), "limit": limit})
        return await cursor.fetchall()


async def left_of(unit: Unit, scrub: Scrub, limit: int) -> list[DueCopy]:
    """Copies that were not verified since the scrub was asked for, the oldest first."""
    asked = {"node": scrub.node_id, "bucket": scrub.bucket_id, "asked": scrub.asked, "limit": limit}
    async with unit.cursor(row_factory=class_row(DueCopy)) as cursor:
        await cursor.execute(_OLDEST_OF_BUCKET, asked)
        return await cursor.fetchall()


async def read(unit: Unit, node: str, batch: Mapping[UUID, Read]) -> None:
    """Say what came of copies of the node that were read just now, by bucket.

    It counts for a scrub of the bucket that is not done, also for one that was asked for while they were read.
    """
    await unit.execute(_ENTERING)
    await unit.execute(
        _NOW_VERIFIED, {"node": node, "objects": [one for found in batch.values() for one in found.whole]}
    )
    for bucket, found in sorted(batch.items()):
        await unit.execute(_READ_ONES, (found.copies, found.bytes, found.damaged, bucket, node))


async def never_verified(unit: Unit, node: str, objects: Sequence[int]) -> None:
    """Enter copies that nobody has read, so that they are the first to be."""
    await unit.execute(_NEVER_VERIFIED, {"node": node, "objects": list(objects)})


async def ask(unit: Unit, bucket: UUID | None) -> int:
    """Have every home read all of a bucket, or of every bucket. Answers how many homes that are."""
    await unit.execute(_ASKING)
    cursor = await unit.execute(_ASK, {"bucket": bucket})
    return cursor.rowcount


async def next_scrub(unit: Unit, node: str, without: Sequence[UUID]) -> Scrub | None:
    """What was asked of the node first, and is not done; not of some buckets."""
    async with unit.cursor(row_factory=class_row(Scrub)) as cursor:
        await cursor.execute(_NEXT, (node, list(without)))
        return await cursor.fetchone()


async def entered(unit: Unit, scrub: Scrub) -> None:
    """Say that every copy has its row."""
    await unit.execute(
        "update scrubs set entered = true where bucket_id = %s and node_id = %s and asked = %s",
        (scrub.bucket_id, scrub.node_id, scrub.asked),
    )


async def finish(unit: Unit, scrub: Scrub) -> None:
    """Say that all was read."""
    await unit.execute(
        "update scrubs set done = now() where bucket_id = %s and node_id = %s and asked = %s",
        (scrub.bucket_id, scrub.node_id, scrub.asked),
    )


async def page(unit: Unit, bucket: UUID | None, after: tuple[UUID, str] | None, limit: int) -> list[Scrub]:
    """What was asked last of each home, by bucket and node, from after a bucket and a node."""
    after_bucket, after_node = after or (None, "")
    asked = {"bucket": bucket, "after_bucket": after_bucket, "after_node": after_node, "limit": limit}
    async with unit.cursor(row_factory=class_row(Scrub)) as cursor:
        await cursor.execute(_PAGE, asked)
        return await cursor.fetchall()


async def oldest_verification(unit: Unit, node: str) -> datetime | None:
    """When the copy of the node was verified that was so longest ago; None while it has none."""
    cursor = await unit.execute("select min(verified) from verified_copies where node_id = %s", (node,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def lost(unit: Unit) -> dict[UUID, int]:
    """Buckets with objects of which no home has a whole copy, and how many these are."""
    cursor = await unit.execute(_LOST_OF_ALL)
    return {row[0]: int(row[1]) for row in await cursor.fetchall()}


async def lost_packs(unit: Unit, bucket: UUID) -> list[bytes]:
    """SHA-256 of live packs of which no home has a whole copy: the first 10,000 that were entered."""
    cursor = await unit.execute(_LOST_PACKS, (bucket, LOST_AT_ONCE))
    return [bytes(row[0]) for row in await cursor.fetchall()]
