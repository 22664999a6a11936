"""Rows of objects and of their users. A root file is found by its kind, every other object by its SHA-256 too."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from services.common.database import Unit
from services.storage.store.buckets import BucketState


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object in the catalogue; `lost` when every home of the bucket lacks its copy."""

    id: int
    sha256: bytes
    size: int
    state: str
    condemned_seq: int | None
    lost: bool


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object with durable copies on the nodes `durable`: the other homes lack theirs.

    What is condemned later stays until they have one (reaping.py), but for those that were `full`.
    """

    name: ObjectName
    sha256: bytes
    size: int
    durable: Sequence[str]
    full: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SeenObject:
    """What a session sees of an object, with what it asks of the session in the same snapshot.

    `id` is None when the session sees no such object. `lacking`: the asking node is known to lack its copy.
    """

    device_id: UUID
    ended_seq: int | None
    id: int | None
    sha256: bytes | None
    size: int | None
    lacking: bool


@dataclass(frozen=True, slots=True)
class ListedObject:
    """`condemned` is when, of what lies in the waste basket."""

    sha256: bytes
    size: int
    condemned: datetime | None = None


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A session that keeps an object from being condemned: one user of it that was not over before the mark."""

    sha256: bytes
    session_id: UUID
    purpose: str
    is_open: bool


LOST = """
exists (select 1 from missing_copies m where m.object_id = o.id) and not exists (
    select 1 from homes h where h.bucket_id = o.bucket_id and not h.joining and not exists (
        select 1 from missing_copies m where m.object_id = o.id and m.node_id = h.node_id))
"""
# Two forms and not "is null or equal": a generic plan of that would walk all objects of the kind.
_NAMED = "o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = %(sha256)s"
_ROOT_FILE = "o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.kind in ('config', 'oort-vault')"
# The columns of an ObjectRow, of an object `o`.
FOUND = f"o.id, o.sha256, o.size, o.state, o.condemned_seq, {LOST} as lost"
_FIND = f"select {FOUND} from objects o where "  # noqa: S608 - constants
# One statement, so that check, entry and counters cost one round trip; the bucket's row is locked before it.
_INSERT = """
with object as (
    insert into objects (bucket_id, tenant_id, user_id, kind, sha256, size, created_seq, created_by)
    values (%(bucket)s, %(tenant)s, %(user)s, %(kind)s, %(sha256)s, %(size)s, %(seq)s, %(session)s)
    returning id
), object_user as (
    insert into object_users (object_id, session_id, tenant_id, user_id)
    select id, %(session)s, %(tenant)s, %(user)s from object
), counted as (
    update buckets set seq = %(seq)s, objects = objects + 1, bytes = bytes + %(size)s,
        live_snapshots = live_snapshots + (%(kind)s = 'snapshots')::int,
        live_bytes = live_bytes + case when %(kind)s = 'data' then %(size)s else 0 end
    where id = %(bucket)s
), remembered as (
    update sessions set pack_seq = case when %(kind)s = 'data' then %(seq)s else pack_seq end,
        index_seq = case when %(kind)s = 'index' then %(seq)s else index_seq end
    where id = %(session)s and %(kind)s in ('data', 'index')
), lacking as (
    insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id, holds_from)
    select object.id, h.node_id, %(bucket)s, %(tenant)s, %(user)s,
        case when h.node_id <> all(%(full)s::text[]) then %(seq)s::bigint end
    from object, homes h where h.bucket_id = %(bucket)s and (h.joining or h.node_id <> all(%(durable)s::text[]))
)
select id from object
"""
_REPLACE = """
with former as (
    select id, size, (kind = 'data' and state = 'live')::int as weighed
    from objects where id = %(object)s and sha256 in (%(replaced)s, %(sha256)s)
), replaced as (
    update objects o set sha256 = %(sha256)s, size = %(size)s from former where o.id = former.id
)
update buckets b set bytes = b.bytes + %(size)s - former.size,
    live_bytes = b.live_bytes + (%(size)s - former.size) * former.weighed
from former where b.id = %(bucket)s
"""
_USE = """
with revived as (
    update objects o set state = 'live', condemned_seq = null, condemned = null, condemned_by = null,
        revived_seq = b.seq + 1
    from buckets b where o.id = any(%(objects)s) and o.state = 'condemned' and b.id = o.bucket_id
    returning o.bucket_id, o.kind, o.size
), counted as (
    update buckets b set live_snapshots = live_snapshots + r.snapshots, live_bytes = live_bytes + r.bytes
    from (select bucket_id, count(*) filter (where kind = 'snapshots') as snapshots,
                 coalesce(sum(size) filter (where kind = 'data'), 0) as bytes from revived group by bucket_id) as r
    where b.id = r.bucket_id
)
insert into object_users (object_id, session_id, tenant_id, user_id)
select unnest(%(objects)s::bigint[]), %(session)s, %(tenant)s, %(user)s on conflict do nothing
"""
# Live and not lost; what is condemned lives again by `use`; what is being removed, or lies nowhere, is gone.
_RESERVABLE = f"""
select o.id, o.sha256 from objects o
where o.bucket_id = %s and o.kind = 'data' and o.sha256 = any(%s) and o.state <> 'deleting' and not ({LOST})
"""  # noqa: S608 - constants
_USED = """
select o.sha256 from objects o join object_users u on u.object_id = o.id
where o.bucket_id = %s and o.kind = 'data' and o.sha256 = any(%s) and o.state = 'live' and u.session_id = %s
"""
# Session and object in one statement, hence in one snapshot: rule 2 for reads. An adoption reads the waste basket too.
_SEEN = """
select s.device_id, s.ended_seq, o.id, o.sha256, o.size,
    exists (select 1 from missing_copies m where m.object_id = o.id and m.node_id = %(node)s) as lacking
from sessions s left join objects o on (o.state = 'live' or (o.state = 'condemned' and (s.purpose = 'adopt'
    or (s.purpose <> 'retention' and o.condemned_seq > s.opened_seq)))) and """
_OF_SESSION = " where s.id = %(session)s and s.bucket_id = %(bucket)s"
_LIST = """
select o.sha256, o.size from objects o
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 > %(after)s
  and (o.state = 'live' or (o.state = 'condemned' and o.condemned_seq > %(after_seq)s))
order by o.sha256 limit %(limit)s
"""
_LIST_CONDEMNED = """
select o.sha256, o.size, o.condemned from objects o
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 > %(after)s and o.state = 'condemned'
order by o.sha256 limit %(limit)s
"""
# A restic says of no pack that it uses it, so it counts as a user of all that its index files may list.
_IN_THE_WAY = """
select distinct on (found.id) found.sha256, s.id as session_id, s.purpose, s.ended_seq is null as is_open
from (
    select o.id, o.sha256, u.session_id from objects o join object_users u on u.object_id = o.id
    where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = any(%(names)s) and o.state = 'live'
    union all
    select o.id, o.sha256, r.id from objects o join sessions r on r.bucket_id = o.bucket_id
    where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = any(%(names)s) and o.state = 'live'
      and o.kind in ('data', 'index') and r.purpose = 'restic' and r.id <> %(session)s
      and (r.ended_seq is null or (r.ended_seq > %(mark)s and not r.swept))
) as found join sessions s on s.id = found.session_id
where s.ended_seq is null or s.ended_seq > %(mark)s
order by found.id, s.ended_seq desc nulls first
"""
_CONDEMN = """
with condemned as (
    update objects set state = 'condemned', condemned_seq = %(seq)s, condemned = now(), condemned_by = %(session)s
    where bucket_id = %(bucket)s and kind = %(kind)s and sha256 = any(%(names)s) and state = 'live'
    returning kind, size
), counted as (
    update buckets b set live_snapshots = live_snapshots - c.snapshots, live_bytes = live_bytes - c.bytes
    from (select count(*) filter (where kind = 'snapshots') as snapshots,
                 coalesce(sum(size) filter (where kind = 'data'), 0) as bytes from condemned) as c
    where b.id = %(bucket)s and (c.snapshots > 0 or c.bytes > 0)
)
select count(*) from condemned
"""


def digest_of(name: ObjectName) -> bytes | None:
    """The SHA-256 that a name says; None for the two root files."""
    return bytes.fromhex(name.id) if name.id else None


def matching(name: ObjectName) -> str:
    """The condition that finds an object `o` by what `key_of` gives."""
    return _ROOT_FILE if name.kind.is_root_file else _NAMED


def key_of(bucket: UUID, name: ObjectName) -> dict[str, object]:
    return {"bucket": bucket, "kind": name.kind.value, "sha256": digest_of(name)}


async def find(unit: Unit, bucket: UUID, name: ObjectName) -> ObjectRow | None:
    async with unit.cursor(row_factory=class_row(ObjectRow)) as cursor:
        await cursor.execute(_FIND + matching(name), key_of(bucket, name))
        return await cursor.fetchone()


async def insert(unit: Unit, bucket: BucketState, session: UUID, seq: int, new: NewObject) -> int:
    """Enter an object with its creator as user, count it, and write the bucket's new seq. Answers its id.

    Of a pack or an index file the session remembers the seq, as `sessions.used_pack` and `put_index` write it.
    """
    cursor = await unit.execute(
        _INSERT,
        {
            "bucket": bucket.id,
            "tenant": bucket.tenant_id,
            "user": bucket.user_id,
            "session": session,
            "seq": seq,
            "kind": new.name.kind.value,
            "sha256": new.sha256,
            "size": new.size,
            "durable": list(new.durable),
            "full": list(new.full),
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"entering {new.name} answered no id")
    return int(row[0])


async def replace(unit: Unit, bucket: BucketState, row: ObjectRow, new: NewObject, replaced: bytes) -> bool:
    """Give an object the content of `new`, which only a root file can have another of; homes not in `durable` lack it.

    False, and nothing changed, if it has neither the content with the SHA-256 `replaced` nor that of `new` already.
    """
    cursor = await unit.execute(
        _REPLACE,
        {"bucket": bucket.id, "object": row.id, "sha256": new.sha256, "size": new.size, "replaced": replaced},
    )
    if not cursor.rowcount:
        return False
    await unit.execute(
        "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
        " select %s, node_id, bucket_id, tenant_id, user_id from homes"
        " where bucket_id = %s and (joining or node_id <> all(%s))"
        " on conflict do nothing",
        (row.id, bucket.id, list(new.durable)),
    )
    return True


async def any_of(unit: Unit, bucket: UUID, kind: ObjectKind) -> bool:
    """Whether the bucket has an object of the kind that is not being removed."""
    cursor = await unit.execute(
        "select 1 from objects where bucket_id = %s and kind = %s and state <> 'deleting' limit 1", (bucket, kind.value)
    )
    return await cursor.fetchone() is not None


async def use(unit: Unit, objects: Sequence[int], session: UUID, tenant: UUID, user: UUID) -> None:
    """Make the session a user of the objects; those that are condemned live again, at the bucket's next seq.

    The caller writes that seq in the same transaction.
    """
    await unit.execute(_USE, {"objects": list(objects), "session": session, "tenant": tenant, "user": user})


async def in_the_way(
    unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes], *, mark_seq: int, session: UUID
) -> list[InTheWay]:
    """For each live one of `names` that has a user who was not over before the mark of `session`, one such user."""
    asked = {"bucket": bucket, "kind": kind.value, "names": list(names), "mark": mark_seq, "session": session}
    async with unit.cursor(row_factory=class_row(InTheWay)) as cursor:
        await cursor.execute(_IN_THE_WAY, asked)
        return await cursor.fetchall()


async def condemn(
    unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes], *, seq: int, session: UUID
) -> int:
    """Hide live objects from every session that is opened from `seq` on, in a locked bucket; answers how many.

    `session` is the one that does so.
    """
    asked = {"bucket": bucket, "kind": kind.value, "names": list(names), "seq": seq, "session": session}
    cursor = await unit.execute(_CONDEMN, asked)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def is_other_live(unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes]) -> bool:
    """Whether the bucket has a live object of the kind besides `names`."""
    cursor = await unit.execute(
        "select 1 from objects where bucket_id = %s and kind = %s and state = 'live' and sha256 <> all(%s) limit 1",
        (bucket, kind.value, list(names)),
    )
    return await cursor.fetchone() is not None


async def reservable(unit: Unit, bucket: UUID, packs: Sequence[bytes]) -> dict[bytes, int]:
    """Those of `packs` that are not gone, with their ids."""
    cursor = await unit.execute(_RESERVABLE, (bucket, list(packs)))
    return {bytes(row[1]): int(row[0]) for row in await cursor.fetchall()}


async def used_among(unit: Unit, bucket: UUID, session: UUID, packs: Sequence[bytes]) -> set[bytes]:
    """Those of `packs` that the session is a user of."""
    cursor = await unit.execute(_USED, (bucket, list(packs), session))
    return {bytes(row[0]) for row in await cursor.fetchall()}


async def seen(unit: Unit, bucket: UUID, session: UUID, name: ObjectName, node: str) -> SeenObject | None:
    """The object as the session sees it; None if the unit's scope has no such session on the bucket."""
    async with unit.cursor(row_factory=class_row(SeenObject)) as cursor:
        await cursor.execute(
            _SEEN + matching(name) + _OF_SESSION, {**key_of(bucket, name), "session": session, "node": node}
        )
        return await cursor.fetchone()


async def page(
    unit: Unit, bucket: UUID, kind: ObjectKind, condemned_after: int, *, after: bytes | None, limit: int
) -> list[ListedObject]:
    """Live objects and those condemned after the seq `condemned_after`, by name, from after `after`."""
    async with unit.cursor(row_factory=class_row(ListedObject)) as cursor:
        await cursor.execute(
            _LIST,
            {
                "bucket": bucket,
                "kind": kind.value,
                "after_seq": condemned_after,
                "after": after or b"",
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def page_of_condemned(
    unit: Unit, bucket: UUID, kind: ObjectKind, *, after: bytes | None, limit: int
) -> list[ListedObject]:
    """What is condemned and not yet being removed, by name, from after `after`."""
    async with unit.cursor(row_factory=class_row(ListedObject)) as cursor:
        await cursor.execute(
            _LIST_CONDEMNED, {"bucket": bucket, "kind": kind.value, "after": after or b"", "limit": limit}
        )
        return await cursor.fetchall()


_FATE = """
select o.id as object_id, coalesce(o.sha256 = %(digest)s and o.state <> 'deleting', false) as entered,
       not exists (select 1 from sessions s where s.id = %(session)s and s.ended_seq is null) as session_over,
       exists (select 1 from homes h where h.bucket_id = %(bucket)s and h.node_id = %(node)s) as is_home,
       exists (select 1 from removals r where r.object_id = o.id and r.node_id = %(node)s) as leaving
from (select 1) as one left join objects o on """


@dataclass(frozen=True, slots=True)
class Fate:
    """What the catalogue says of an incoming file, in one snapshot.

    `entered`: its object is there, with this content. `session_over`: its put can enter nothing any more.
    `leaving`: the node is to remove the object, and has not done so. `is_home`: while the node is none, the bucket may
    have been lost with the catalogue, and a rescan enter it again.
    """

    object_id: int | None
    entered: bool
    session_over: bool
    is_home: bool
    leaving: bool


async def fate(unit: Unit, bucket: UUID, session: UUID, name: ObjectName, digest: bytes, *, node: str) -> Fate:
    """Ask as a worker: incoming files belong to any tenant."""
    key = {**key_of(bucket, name), "node": node, "session": session, "digest": digest}
    async with unit.cursor(row_factory=class_row(Fate)) as cursor:
        await cursor.execute(_FATE + matching(name), key)
        found = await cursor.fetchone()
    return found or Fate(None, entered=False, session_over=False, is_home=False, leaving=False)
