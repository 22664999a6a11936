"""Rows of missing copies: the exceptions to "an object lies on every home of its bucket", and replication's queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class MissingCopy:
    """A copy that a home is to fetch; `frees` as of a Plan."""

    object_id: int
    bucket_id: UUID
    kind: str
    sha256: bytes
    size: int
    attempts: int
    frees: bool

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, self.sha256)


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """A copy that a home should hold."""

    object_id: int
    kind: str
    sha256: bytes
    size: int

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, self.sha256)


def name_of(kind: str, digest: bytes) -> ObjectName:
    """The name of an object by the columns of its row."""
    found = ObjectKind(kind)
    return ObjectName(found, "" if found.is_root_file else digest.hex())


@dataclass(frozen=True, slots=True)
class Holder:
    """A home of a bucket and whether it has the copy of one object."""

    node_id: str
    internal_endpoint: str
    live: bool
    has_copy: bool


# A home that goes takes what it lacks along: it is locked against that, and what was one is passed over.
_ADD = """
insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)
select o.id, h.node_id, o.bucket_id, o.tenant_id, o.user_id
from objects o join homes h on h.bucket_id = o.bucket_id and h.node_id = %(node)s
where o.id = %(object)s and o.state <> 'deleting' for key share of h
on conflict (object_id, node_id) do update set retry_at = now()
"""
_ADD_ALL = _ADD.replace("o.id = %(object)s", "o.id = any(%(object)s)")
# While a home is joining: of the objects up to which it is entered what it lacks.
_HELD = """
select o.id as object_id, o.kind, o.sha256, o.size
from objects o join homes h on h.bucket_id = o.bucket_id and h.node_id = %(node)s
    and (not h.joining or (o.kind, o.sha256) <= (h.entered_kind, h.entered_sha256))
where o.bucket_id = %(bucket)s and (o.kind, o.sha256) > (%(kind)s, %(sha256)s) and o.state <> 'deleting'
  and not exists (select 1 from missing_copies m where m.object_id = o.id and m.node_id = %(node)s)
order by o.kind, o.sha256 limit %(limit)s
"""
_ADD_NAMED = """
insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)
select o.id, h.node_id, o.bucket_id, o.tenant_id, o.user_id
from objects o join homes h on h.bucket_id = o.bucket_id and h.node_id = any(%(nodes)s)
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.state <> 'deleting'
  and (o.sha256 = %(sha256)s or o.kind in ('config', 'oort-vault')) and o.size = coalesce(%(size)s, o.size)
for key share of h
on conflict (object_id, node_id) do update set retry_at = now()
"""
_ADD_IF_STILL = _ADD.replace("o.id = %(object)s", "o.id = %(object)s and (o.sha256, o.size) = (%(sha256)s, %(size)s)")
_MOST_URGENT = """
select q.object_id from missing_copies q cross join lateral (
    select (select count(*) from homes h where h.bucket_id = q.bucket_id)
         - (select count(*) from missing_copies m where m.object_id = q.object_id) as copies) as there
where q.node_id = %(node)s and q.retry_at <= now()
  and not exists (select 1 from objects d where d.id = q.object_id and d.state = 'deleting')
order by there.copies = 0 and q.attempts > 0, there.copies, q.retry_at, q.object_id limit %(limit)s
"""
# The claim is a lease and not a lock held while the copy travels: no transaction waits for the network.
_CLAIM = """
update missing_copies m set retry_at = now() + make_interval(secs => %(lease)s), attempts = attempts + 1
from objects o
where o.id = m.object_id and (m.object_id, m.node_id) in (
    select q.object_id, q.node_id from missing_copies q
    where q.node_id = %(node)s and q.object_id = any(%(objects)s) and q.retry_at <= now()
      and not exists (select 1 from objects d where d.id = q.object_id and d.state = 'deleting')
    for update skip locked)
returning m.object_id, m.bucket_id, o.kind, o.sha256, o.size, m.attempts, o.kind = 'index' and exists (
    select 1 from sessions s where s.id = o.created_by and s.purpose = 'retention') as frees
"""
_HOLDERS = """
select h.node_id, n.internal_endpoint, n.last_seen > now() - make_interval(secs => %(silent)s) as live,
       not h.joining and not exists (
           select 1 from missing_copies m where m.object_id = %(object)s and m.node_id = h.node_id) as has_copy
from homes h join nodes n on n.id = h.node_id where h.bucket_id = %(bucket)s
"""


async def add(unit: Unit, object_id: int, node: str) -> None:
    """Say that a home lacks its copy, or holds a damaged one. Nothing if the node is no home."""
    await unit.execute(_ADD, {"object": object_id, "node": node})


async def add_if_still(unit: Unit, object_id: int, sha256: bytes, size: int, node: str) -> bool:
    """As `add`, if the object has that content. Answers whether it was done.

    A root file may have got another one, and a rescan have corrected the size of what was found cut.
    """
    cursor = await unit.execute(_ADD_IF_STILL, {"object": object_id, "sha256": sha256, "size": size, "node": node})
    return cursor.rowcount == 1


async def add_named(
    unit: Unit, bucket: UUID, name: ObjectName, nodes: Sequence[str], *, size: int | None = None
) -> None:
    """As `add`, of homes of the bucket, for whoever knows the object by its name only; if it has still that size."""
    asked = {"bucket": bucket, "kind": name.kind.value, "sha256": bytes.fromhex(name.id) or None, "size": size}
    await unit.execute(_ADD_NAMED, {**asked, "nodes": list(nodes)})


async def add_all(unit: Unit, objects: Sequence[int], node: str) -> None:
    """As `add`, of many objects."""
    await unit.execute(_ADD_ALL, {"object": list(objects), "node": node})


async def buckets_of(unit: Unit, node: str, after: UUID | None, limit: int) -> list[UUID]:
    """The buckets that the node is a home of, by id, from after `after`."""
    cursor = await unit.execute(
        "select bucket_id from homes where node_id = %s and (%s::uuid is null or bucket_id > %s)"
        " order by bucket_id limit %s",
        (node, after, after, limit),
    )
    return [row[0] for row in await cursor.fetchall()]


async def held(unit: Unit, bucket: UUID, node: str, after: tuple[str, bytes], limit: int) -> list[HeldCopy]:
    """What the catalogue says that the node holds of a bucket, by kind and name, from after `after`."""
    async with unit.cursor(row_factory=class_row(HeldCopy)) as cursor:
        await cursor.execute(
            _HELD, {"bucket": bucket, "node": node, "kind": after[0], "sha256": after[1], "limit": limit}
        )
        return await cursor.fetchall()


async def clear(unit: Unit, object_id: int, nodes: Sequence[str]) -> list[str]:
    """Say that the homes hold a durable copy now; answers those that lacked one."""
    cursor = await unit.execute(
        "delete from missing_copies where object_id = %s and node_id = any(%s) returning node_id",
        (object_id, list(nodes)),
    )
    return [str(row[0]) for row in await cursor.fetchall()]


async def most_urgent(unit: Unit, node: str, limit: int) -> list[int]:
    """Objects that the node lacks and should fetch now, those of which the fewest homes have a copy first.

    Last come those that were looked for before, and that no home has.
    """
    cursor = await unit.execute(_MOST_URGENT, {"node": node, "limit": limit})
    return [int(row[0]) for row in await cursor.fetchall()]


async def claim(unit: Unit, node: str, objects: Sequence[int], lease_seconds: float) -> list[MissingCopy]:
    """Take those of `objects` that the node lacks; nobody else gets them before the lease is over."""
    async with unit.cursor(row_factory=class_row(MissingCopy)) as cursor:
        await cursor.execute(_CLAIM, {"node": node, "objects": list(objects), "lease": lease_seconds})
        return await cursor.fetchall()


async def renew(unit: Unit, object_id: int, sha256: bytes, node: str, lease_seconds: float) -> bool:
    """Claim one missing copy once more, to place it.

    False if it is no longer missing, is being removed, or has another content by now.
    """
    cursor = await unit.execute(
        "update missing_copies m set retry_at = now() + make_interval(secs => %s) from objects o"
        " where o.id = m.object_id and m.object_id = %s and m.node_id = %s and o.sha256 = %s and o.state <> 'deleting'",
        (lease_seconds, object_id, node, sha256),
    )
    return cursor.rowcount == 1


async def await_no_more(unit: Unit, object_id: int, node: str) -> None:
    """Let nothing wait for this copy: its home has no room for it, which what waits may make."""
    await unit.execute(
        "update missing_copies set holds_from = null where object_id = %s and node_id = %s", (object_id, node)
    )


async def retry_after(unit: Unit, object_id: int, node: str, seconds: float) -> None:
    await unit.execute(
        "update missing_copies set retry_at = now() + make_interval(secs => %s) where object_id = %s and node_id = %s",
        (seconds, object_id, node),
    )


async def retry_all(unit: Unit, node: str) -> None:
    """Drop the leases of a node: it has just started, so nothing of it is at work."""
    await unit.execute("update missing_copies set retry_at = now() where node_id = %s", (node,))


async def holders(unit: Unit, bucket: UUID, object_id: int, silent_seconds: float) -> list[Holder]:
    """The bucket's homes, and which of them hold the object."""
    async with unit.cursor(row_factory=class_row(Holder)) as cursor:
        await cursor.execute(_HOLDERS, {"bucket": bucket, "object": object_id, "silent": silent_seconds})
        return await cursor.fetchall()


async def count(unit: Unit) -> int:
    """Missing copies in the whole cluster."""
    cursor = await unit.execute("select count(*) from missing_copies")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
