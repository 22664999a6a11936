"""Entries of what lies on a disk and the catalogue does not know. As a worker; the bucket's row is locked.

Kept true: nothing here takes an object away but one that was entered just now and has no file after all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectName
from services.common.database import Unit
from services.storage.store.buckets import NewBucket
from services.storage.store.copies import name_of


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that has an object's name; `sha256` is what its name says, or for a root file what its content has."""

    name: ObjectName
    sha256: bytes
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object as the catalogue has it."""

    id: int
    kind: str
    sha256: bytes
    size: int
    created: datetime

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, self.sha256)


# A catalogue that was lost has given numbers that are not known any more: none of them comes again.
_FIRST_SEQ = 1 << 32
_ADD_BUCKET = """
insert into buckets (id, tenant_id, user_id, copies, ack_copies, quota_bytes, seq, created, braked)
values (%s, %s, %s, %s, %s, %s, %s, now(), now()) on conflict do nothing
"""
_RELEASE = "update buckets set braked = null where braked = created"
_MORE_COPIES = """
update buckets b set copies = greatest(b.copies, (
    select count(*) from homes h join nodes n on n.id = h.node_id where h.bucket_id = b.id and n.state = 'serving'))
where b.id = %s
"""
_GIVEN = """
given as (
    select * from unnest(%(kinds)s::text[], %(digests)s::bytea[], %(sizes)s::bigint[], %(times)s::timestamptz[])
        as g (kind, sha256, size, modified)
)
"""
_ENTER = f"""
with {_GIVEN}, entered as (
    insert into objects (bucket_id, tenant_id, user_id, kind, sha256, size, created_seq, created)
    select b.id, b.tenant_id, b.user_id, g.kind, g.sha256, g.size, b.seq + 1, least(g.modified, now())
    from given g join buckets b on b.id = %(bucket)s on conflict do nothing
    returning id, bucket_id, tenant_id, user_id, kind, sha256, size, created
), lacking as (
    insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)
    select e.id, h.node_id, e.bucket_id, e.tenant_id, e.user_id
    from entered e join homes h on h.bucket_id = e.bucket_id and h.node_id <> %(node)s
), unread as (
    insert into verified_copies (object_id, node_id, bucket_id, tenant_id, user_id, verified)
    select e.id, %(node)s, e.bucket_id, e.tenant_id, e.user_id, to_timestamp(0) from entered e
), counted as (
    update buckets set seq = seq + 1, objects = objects + (select count(*) from entered),
        bytes = bytes + (select coalesce(sum(size), 0) from entered),
        live_snapshots = live_snapshots + (select count(*) from entered where kind = 'snapshots'),
        live_bytes = live_bytes + (select coalesce(sum(size), 0) from entered where kind = 'data')
    where id = %(bucket)s and exists (select 1 from entered)
)
select id, kind, sha256, size, created from entered
"""  # noqa: S608 - constants
# A root file is known by its kind, whatever content it has.
_OTHERWISE = f"""
with {_GIVEN}
select o.id, o.kind, o.sha256, o.size, o.created from given g
join objects o on o.bucket_id = %(bucket)s and o.kind = g.kind and o.state <> 'deleting'
 and (o.sha256 = g.sha256 or o.kind in ('config', 'oort-vault'))
where o.size <> g.size or o.sha256 <> g.sha256
"""  # noqa: S608 - constants
# The content of root files was read, so they are known to be there; what is there with another content is to be judged
# before the node fetches what it lacks over it.
_JOINED_WITH = f"""
with {_GIVEN}, there as (
    select o.id, o.sha256 = g.sha256 and o.size = g.size as is_same
    from given g join objects o on o.bucket_id = %(bucket)s and o.kind = g.kind and o.kind in ('config', 'oort-vault')
), same as (
    delete from missing_copies m using there t where m.object_id = t.id and m.node_id = %(node)s and t.is_same
)
update missing_copies m set retry_at = now() + interval '2 minutes'
from there t where m.object_id = t.id and m.node_id = %(node)s and not t.is_same
"""  # noqa: S608 - constants
_TAKE_BACK = """
with gone as (
    delete from objects o where o.id = any(%(objects)s)
      and not exists (select 1 from object_users u where u.object_id = o.id)
    returning kind, size, state
)
update buckets set objects = objects - (select count(*) from gone),
    bytes = bytes - (select coalesce(sum(size), 0) from gone),
    live_snapshots = live_snapshots - (select count(*) from gone where kind = 'snapshots' and state = 'live'),
    live_bytes = live_bytes - (select coalesce(sum(size), 0) from gone where kind = 'data' and state = 'live')
where id = %(bucket)s
"""


async def add_bucket(unit: Unit, bucket: NewBucket) -> None:
    """Nothing if it is known. It is braked until `release`: other pages, or nodes, may need what would be removed."""
    await unit.execute(
        _ADD_BUCKET,
        (
            bucket.id,
            bucket.tenant_id,
            bucket.user_id,
            bucket.copies,
            bucket.ack_copies,
            bucket.quota_bytes,
            _FIRST_SEQ,
        ),
    )


async def release(unit: Unit) -> int:
    """Let go of the buckets that are braked since they were added. Answers how many."""
    cursor = await unit.execute(_RELEASE)
    return cursor.rowcount


async def copies_as_homes(unit: Unit, bucket: UUID) -> None:
    """A bucket has as many copies as homes, at least, but for those that are to go."""
    await unit.execute(_MORE_COPIES, (bucket,))


async def enter(unit: Unit, bucket: UUID, node: str, files: Sequence[FoundFile]) -> list[KnownObject]:
    """Enter files of a node whose objects are not known; every other home lacks these. Answers what was entered."""
    async with unit.cursor(row_factory=class_row(KnownObject)) as cursor:
        await cursor.execute(_ENTER, {**_given(bucket, files), "node": node})
        return await cursor.fetchall()


async def joined_with(unit: Unit, bucket: UUID, node: str, files: Sequence[FoundFile]) -> None:
    """Say of a home that has just joined, and so lacks everything, that it has these files of the root."""
    await unit.execute(_JOINED_WITH, {**_given(bucket, files), "node": node})


async def otherwise(unit: Unit, bucket: UUID, files: Sequence[FoundFile]) -> list[KnownObject]:
    """Objects that are known with another size or content than these files of them have."""
    async with unit.cursor(row_factory=class_row(KnownObject)) as cursor:
        await cursor.execute(_OTHERWISE, _given(bucket, files))
        return await cursor.fetchall()


async def take_back(unit: Unit, bucket: UUID, objects: Sequence[int]) -> None:
    """Forget objects that were entered just now, unless somebody uses them already."""
    await unit.execute(_TAKE_BACK, {"bucket": bucket, "objects": list(objects)})


async def lacks(unit: Unit, object_id: int, node: str) -> bool:
    """Whether the node is known to lack its copy, or to hold one that is not what the catalogue says."""
    cursor = await unit.execute("select 1 from missing_copies where object_id = %s and node_id = %s", (object_id, node))
    return await cursor.fetchone() is not None


def _given(bucket: UUID, files: Sequence[FoundFile]) -> dict[str, object]:
    return {
        "bucket": bucket,
        "kinds": [file.name.kind.value for file in files],
        "digests": [file.sha256 for file in files],
        "sizes": [file.size for file in files],
        "times": [file.modified for file in files],
    }
