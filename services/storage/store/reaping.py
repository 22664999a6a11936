"""What the reaper asks and writes, as a worker: it crosses tenants.

Kept true: what is decided of a bucket is decided while its row is locked; a removal of copies is a row for each home,
made in the transaction that decides and deleted when the home has no file of the object any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from services.common.database import Unit

# Order of removal, on each disk: nothing that is there names what is not.
ORDER = (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY)


@dataclass(frozen=True, slots=True)
class Removal:
    """A copy that a home is to remove."""

    object_id: int
    kind: str
    sha256: bytes

    @property
    def name(self) -> ObjectName:
        return ObjectName(ObjectKind(self.kind), self.sha256.hex())


# Of what was condemned after this seq, a session `s` may see something. An adoption sees all that is condemned,
# whenever that was: nothing goes while one is open.
HOLDS_AFTER = "case s.purpose when 'adopt' then 0 else s.opened_seq end"
# The first condemnation in a bucket `b` whose time in the waste basket is not over; null: there is none.
_FIRST_IN_TIME = """
(select min(young.condemned_seq) from unnest(%(kinds)s::text[]) as k(kind) cross join lateral (
    select o.condemned_seq from objects o
    where o.bucket_id = b.id and o.kind = k.kind and o.state = 'condemned'
      and coalesce(o.condemned, now()) > now() - %(basket)s::interval
    order by o.condemned_seq limit 1) as young)
"""
# The first that object lock holds, which may have come after the condemnation. Asked only where there is a lock.
_FIRST_LOCKED = """
(case when b.lock_days > 0 then (
    select min(o.condemned_seq) from objects o where o.bucket_id = b.id and o.state = 'condemned'
      and o.created > now() - make_interval(days => b.lock_days)) end)
"""
FIRST_IN_BASKET = f"least({_FIRST_IN_TIME}, {_FIRST_LOCKED})"
# The first put in a bucket `b` that a home has missed, not for want of room, and another one has; null: there is none.
FIRST_LACKED = """
(select min(m.holds_from) from missing_copies m join objects lacked on lacked.id = m.object_id
where m.bucket_id = b.id and m.holds_from is not null and lacked.state <> 'deleting' and exists (
    select 1 from homes h where h.bucket_id = b.id and not h.joining and not exists (
        select 1 from missing_copies l where l.object_id = m.object_id and l.node_id = h.node_id)))
"""
# While the brake holds a bucket, what was removed before it did stays as well; while files are adopted, all stays.
_HORIZON = f"""
least(case when b.braked is not null or b.adopting then 0 end,
    (select min({HOLDS_AFTER}) from sessions s where s.bucket_id = b.id and s.ended_seq is null),
    {FIRST_IN_BASKET}, {FIRST_LACKED})
"""  # noqa: S608 - constants
_BEFORE_HORIZON = f"""
exists (
    select 1 from unnest(%(kinds)s::text[]) as k(kind) cross join lateral (
        select o.condemned_seq from objects o
        where o.bucket_id = b.id and o.kind = k.kind and o.state = 'condemned'
        order by o.condemned_seq limit 1) as oldest
    where oldest.condemned_seq < coalesce({_HORIZON}, oldest.condemned_seq + 1))
"""  # noqa: S608 - constants
_WAITING = f"select b.id from buckets b where {_BEFORE_HORIZON} order by b.id limit %(limit)s"  # noqa: S608 - constants
_HORIZON_OF = f"select {_HORIZON} from buckets b where b.id = %(bucket)s"  # noqa: S608 - constants
# Claims on missing copies that are still to run stay: a fetch in flight is waited for.
_DOOM = """
with doomed as (
    update objects set state = 'deleting' where id in (
        select o.id from objects o
        where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.state = 'condemned'
          and (%(horizon)s::bigint is null or o.condemned_seq < %(horizon)s)
        order by o.condemned_seq limit %(limit)s)
    returning id, bucket_id, tenant_id, user_id, condemned
), noted as (
    update buckets set reaped = greatest(reaped, (select max(condemned) from doomed))
    where id = %(bucket)s and exists (select 1 from doomed)
), unclaimed as (
    delete from missing_copies m using doomed d where m.object_id = d.id and m.retry_at <= now()
), asked as (
    insert into removals (object_id, node_id, bucket_id, tenant_id, user_id, rank)
    select d.id, h.node_id, d.bucket_id, d.tenant_id, d.user_id, %(rank)s
    from doomed d join homes h on h.bucket_id = d.bucket_id
)
select count(*) from doomed
"""
_BUCKETS_OF_NODE = "select distinct bucket_id from removals where node_id = %s order by bucket_id"
_UNCLAIM = """
delete from missing_copies m using removals r
where r.node_id = %(node)s and r.bucket_id = %(bucket)s
  and m.object_id = r.object_id and m.node_id = r.node_id and m.retry_at <= now()
"""
# Of the first rank alone, so that no home removes a pack while it has an index file to remove.
_NEXT = """
select r.object_id, o.kind, o.sha256 from removals r join objects o on o.id = r.object_id
where r.node_id = %(node)s and r.bucket_id = %(bucket)s and o.state = 'deleting'
  and r.rank = (select min(f.rank) from removals f where f.node_id = %(node)s and f.bucket_id = %(bucket)s)
  and not exists (select 1 from missing_copies m where m.object_id = r.object_id and m.node_id = r.node_id)
order by r.object_id limit %(limit)s
"""
_FORGET = """
with gone as (
    delete from objects o where o.id = any(%(objects)s) and o.state = 'deleting'
      and not exists (select 1 from removals r where r.object_id = o.id)
    returning size
)
update buckets set seq = seq + 1, objects = objects - (select count(*) from gone),
    bytes = bytes - (select coalesce(sum(size), 0) from gone)
where id = %(bucket)s
"""
# No open mark is older than its end, and a mark that is drawn later is younger: once true, this stays true.
_SWEEPABLE = """
select s.id from sessions s where s.ended_seq is not null and not s.swept and not exists (
    select 1 from sessions r where r.bucket_id = s.bucket_id and r.ended_seq is null and r.mark_seq < s.ended_seq)
limit %s
"""
# Rows that another node is deleting are left to it: they are gone for whoever waits, and mean nothing for the rest.
_SWEEP = """
delete from object_users where (object_id, session_id) in (
    select object_id, session_id from object_users where session_id = any(%s) limit %s for update skip locked)
"""
_SWEPT = """
update sessions set swept = true where id in (
    select s.id from sessions s where s.id = any(%s) and not s.swept
      and not exists (select 1 from object_users u where u.session_id = s.id)
    order by s.id for update)
"""


async def waiting_buckets(unit: Unit, basket: timedelta, limit: int) -> list[UUID]:
    """Buckets with something to remove."""
    cursor = await unit.execute(_WAITING, {"kinds": kinds(), "basket": basket, "limit": limit})
    return [row[0] for row in await cursor.fetchall()]


async def horizon(unit: Unit, bucket: UUID, basket: timedelta) -> int | None:
    """What was condemned before this seq is removed; None: all of it. The bucket's row is locked."""
    cursor = await unit.execute(_HORIZON_OF, {"kinds": kinds(), "basket": basket, "bucket": bucket})
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def doom(unit: Unit, bucket: UUID, kind: ObjectKind, before: int | None, limit: int) -> int:
    """Begin to remove objects of a kind that were condemned before a seq, the first `limit`. Answers how many."""
    cursor = await unit.execute(
        _DOOM,
        {"bucket": bucket, "kind": kind.value, "horizon": before, "limit": limit, "rank": ORDER.index(kind)},
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def buckets_of(unit: Unit, node: str) -> list[UUID]:
    """The buckets in which the node has copies to remove."""
    cursor = await unit.execute(_BUCKETS_OF_NODE, (node,))
    return [row[0] for row in await cursor.fetchall()]


async def next_removals(unit: Unit, bucket: UUID, node: str, limit: int) -> list[Removal]:
    """Copies that the node can remove now, all of the kind whose turn it is; those that are being fetched wait."""
    key = {"bucket": bucket, "node": node, "limit": limit}
    await unit.execute(_UNCLAIM, key)
    # A statement of its own: it sees the claims that were renewed while the other waited for them.
    async with unit.cursor(row_factory=class_row(Removal)) as cursor:
        await cursor.execute(_NEXT, key)
        return await cursor.fetchall()


async def removed(unit: Unit, bucket: UUID, node: str, objects: Sequence[int]) -> None:
    """Say that the node has no copies of the objects any more; those of which nobody has are forgotten.

    The bucket's row is locked.
    """
    await unit.execute("delete from removals where node_id = %s and object_id = any(%s)", (node, list(objects)))
    await unit.execute(_FORGET, {"bucket": bucket, "objects": list(objects)})


async def sweepable(unit: Unit, limit: int) -> list[UUID]:
    """Sessions that are over, whose use of objects decides nothing any more."""
    cursor = await unit.execute(_SWEEPABLE, (limit,))
    return [row[0] for row in await cursor.fetchall()]


async def sweep(unit: Unit, sessions: Sequence[UUID], limit: int) -> bool:
    """Delete up to `limit` rows of such sessions from object_users, and note which have none left.

    False if there was nothing to do here: another node is at the same sessions.
    """
    deleted = await unit.execute(_SWEEP, (list(sessions), limit))
    swept = await unit.execute(_SWEPT, (list(sessions),))
    return deleted.rowcount + swept.rowcount > 0


async def forget_sessions(unit: Unit, kept: timedelta, limit: int) -> int:
    """Delete rows of sessions that ended longer than `kept` ago, and are swept."""
    cursor = await unit.execute(
        "delete from sessions where id in (select id from sessions where swept and ended < now() - %s limit %s)",
        (kept, limit),
    )
    return cursor.rowcount


async def forget_locks(unit: Unit, kept: timedelta, limit: int) -> int:
    """Delete rows of restics' locks that these removed themselves longer than `kept` ago."""
    cursor = await unit.execute(
        "delete from restic_locks where (bucket_id, sha256) in"
        " (select bucket_id, sha256 from restic_locks where removed < now() - %s limit %s for update skip locked)",
        (kept, limit),
    )
    return cursor.rowcount


def kinds() -> list[str]:
    """What the queries call `kinds`: the kinds that can be condemned."""
    return [kind.value for kind in ORDER]
