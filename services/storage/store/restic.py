"""Rows of restics' locks, and what their sessions see: the bucket as it was, and what they did to it themselves."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.common.database import Unit
from services.storage.store.buckets import BucketState
from services.storage.store.objects import ListedObject, digest_of, key_of, matching
from services.storage.store.sessions import NOBODY, RESTIC_SILENCE, SessionRow, get


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object as a restic sees it; `lacking`: the asking node is known to lack its copy."""

    id: int
    sha256: bytes
    size: int
    lacking: bool


@dataclass(frozen=True, slots=True)
class LockRow:
    """A lock file's session, and the seq of that one's end; `is_removed`: its own device removed the lock before."""

    session_id: UUID
    device_id: UUID
    ended_seq: int | None
    is_removed: bool


# What a backup has put is seen if that was over at the opening: then all that belongs together is seen, or none of it.
# What a retention has put before is seen while it runs, since what it replaces is not. What another session has
# condemned since is seen still. Keys and the config are what they are at the moment: a restic that finds none would
# make others.
_SEEN = """
(o.state = 'live' or (o.state = 'condemned' and o.condemned_seq > %(opened)s
                      and o.condemned_by is distinct from %(session)s))
and (exists (select 1 from object_users u where u.object_id = o.id and u.session_id = %(session)s)
     or o.kind not in ('data', 'index', 'snapshots')
     or (o.created_seq < %(opened)s and not exists (
         select 1 from sessions c where c.id = o.created_by and c.purpose in ('backup', 'adopt')
         and (c.ended_seq is null or c.ended_seq > %(opened)s))))
"""
_LIVE = "o.state = 'live'"
_FIND = """
select o.id, o.sha256, o.size,
    exists (select 1 from missing_copies m where m.object_id = o.id and m.node_id = %(node)s) as lacking
from objects o where """
_PAGE = """
select o.sha256, o.size from objects o
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 > %(after)s and """
_OPEN = """
select id from sessions
where bucket_id = %s and device_id = %s and purpose = 'restic' and ended_seq is null order by opened_seq limit 1
"""
# One that a restic has left lying is none, although its session may go on for others of the device.
_IN_FORCE = "s.ended_seq is null and l.body is not null and l.written > now() - %(silence)s"
_LOCKS = f"""
select l.sha256, length(l.body)::bigint as size from restic_locks l join sessions s on s.id = l.session_id
where l.bucket_id = %(bucket)s and {_IN_FORCE} order by l.sha256
"""  # noqa: S608 - constants


async def open_session(unit: Unit, bucket: UUID, device: UUID) -> SessionRow | None:
    """The session of the restics that a device's URL serves, if one of them has a lock."""
    cursor = await unit.execute(_OPEN, (bucket, device))
    row = await cursor.fetchone()
    return await get(unit, row[0]) if row else None


async def put_lock(unit: Unit, bucket: BucketState, session: UUID, name: ObjectName, body: bytes) -> None:
    """Write a lock, and have its session live on."""
    await unit.execute(
        "insert into restic_locks (bucket_id, sha256, session_id, tenant_id, user_id, body)"
        " values (%s, %s, %s, %s, %s, %s) on conflict (bucket_id, sha256)"
        " do update set session_id = excluded.session_id, body = excluded.body, written = now(), removed = null",
        (bucket.id, digest_of(name), session, bucket.tenant_id, bucket.user_id, body),
    )
    await unit.execute("update sessions set last_beat = now() where id = %s", (session,))


async def take_lock(unit: Unit, bucket: UUID, name: ObjectName, device: UUID) -> LockRow | None:
    """Remove a lock, of which the row stays; answers whose it was. `device` is whose restic removes it."""
    named = (bucket, digest_of(name))
    async with unit.cursor(row_factory=class_row(LockRow)) as cursor:
        await cursor.execute(
            "select s.id as session_id, s.device_id, s.ended_seq, l.removed is not null as is_removed"
            " from restic_locks l join sessions s on s.id = l.session_id where l.bucket_id = %s and l.sha256 = %s",
            named,
        )
        found = await cursor.fetchone()
    if found is not None:
        await unit.execute(
            "update restic_locks set body = null, removed = case when %s then coalesce(removed, now()) end"
            " where bucket_id = %s and sha256 = %s",
            (found.device_id == device, *named),
        )
    return found


async def has_lost_lock(unit: Unit, bucket: UUID, device: UUID) -> bool:
    """Whether a session of the device's restics has ended over a lock that none of them had removed."""
    cursor = await unit.execute(
        "select 1 from restic_locks l join sessions s on s.id = l.session_id"
        " where s.bucket_id = %s and s.device_id = %s and s.ended_seq is not null and l.removed is null limit 1",
        (bucket, device),
    )
    return await cursor.fetchone() is not None


async def doubt(unit: Unit, session: UUID) -> None:
    """Remember that who has opened the session may know an older state of the vault."""
    await unit.execute("update sessions set doubtful = true where id = %s", (session,))


async def end_doubt(unit: Unit, session: UUID) -> None:
    await unit.execute("update sessions set doubtful = false where id = %s and doubtful", (session,))


async def is_doubtful(unit: Unit, session: UUID) -> bool:
    cursor = await unit.execute("select 1 from sessions where id = %s and doubtful", (session,))
    return await cursor.fetchone() is not None


async def others_removed(unit: Unit, bucket: UUID, since: int, session: UUID) -> bool:
    """Whether anything may have been condemned since the seq `since`: by `session`, or by another that removes."""
    cursor = await unit.execute(
        "select 1 where exists (select 1 from objects where bucket_id = %(bucket)s and condemned_seq > %(since)s)"
        " or exists (select 1 from sessions where bucket_id = %(bucket)s and id <> %(session)s"
        "     and purpose in ('retention', 'restic') and (ended_seq is null or ended_seq > %(since)s))",
        {"bucket": bucket, "since": since, "session": session},
    )
    return await cursor.fetchone() is not None


async def has_lock(unit: Unit, session: UUID) -> bool:
    """Whether a lock of the session is in force."""
    cursor = await unit.execute(
        "select 1 from restic_locks where session_id = %s and body is not null and written > now() - %s limit 1",
        (session, RESTIC_SILENCE),
    )
    return await cursor.fetchone() is not None


async def count_locks(unit: Unit, bucket: UUID) -> int:
    """Locks of open sessions in a bucket that were not removed, in force or not; those of others lose their bodies."""
    await unit.execute(
        "update restic_locks l set body = null from sessions s where l.bucket_id = %s and l.body is not null"
        " and s.id = l.session_id and s.ended_seq is not null",
        (bucket,),
    )
    cursor = await unit.execute(
        "select count(*) from restic_locks where bucket_id = %s and body is not null", (bucket,)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def locks(unit: Unit, bucket: UUID) -> list[ListedObject]:
    """Locks in force, of every device, by name."""
    async with unit.cursor(row_factory=class_row(ListedObject)) as cursor:
        await cursor.execute(_LOCKS, {"bucket": bucket, "silence": RESTIC_SILENCE})
        return await cursor.fetchall()


async def lock_body(unit: Unit, bucket: UUID, name: ObjectName) -> bytes | None:
    """What a lock in force says, sealed."""
    cursor = await unit.execute(
        "select l.body from restic_locks l join sessions s on s.id = l.session_id"  # noqa: S608 - a constant
        f" where l.bucket_id = %(bucket)s and l.sha256 = %(sha256)s and {_IN_FORCE}",
        {"bucket": bucket, "sha256": digest_of(name), "silence": RESTIC_SILENCE},
    )
    row = await cursor.fetchone()
    return bytes(row[0]) if row else None


async def find(
    unit: Unit, bucket: UUID, row: SessionRow | None, name: ObjectName, node: str = ""
) -> FoundObject | None:
    """An object as the session sees it; without one, what is live."""
    asked = {**key_of(bucket, name), "node": node, **_of(row)}
    async with unit.cursor(row_factory=class_row(FoundObject)) as cursor:
        await cursor.execute(f"{_FIND} {matching(name)} and {_SEEN if row else _LIVE}", asked)
        return await cursor.fetchone()


async def page(
    unit: Unit, bucket: UUID, row: SessionRow | None, kind: ObjectKind, *, after: bytes, limit: int
) -> list[ListedObject]:
    """Objects of a kind as the session sees them, by name, from after `after`; without one, what is live."""
    asked = {"bucket": bucket, "kind": kind.value, "after": after, "limit": limit, **_of(row)}
    async with unit.cursor(row_factory=class_row(ListedObject)) as cursor:
        await cursor.execute(_PAGE + (_SEEN if row else _LIVE) + " order by o.sha256 limit %(limit)s", asked)
        return await cursor.fetchall()


async def is_removed(unit: Unit, bucket: UUID, name: ObjectName, since: int) -> bool:
    """Whether an object was condemned after the seq `since`: then its removal has been done."""
    cursor = await unit.execute(
        "select 1 from objects where bucket_id = %s and kind = %s and sha256 = %s and condemned_seq > %s",
        (bucket, name.kind.value, digest_of(name), since),
    )
    return await cursor.fetchone() is not None


async def backup_on(unit: Unit, bucket: UUID, snapshot: ObjectName, since: int) -> bool:
    """Whether the snapshot is the parent of a session that was not over at the seq `since`."""
    cursor = await unit.execute(
        "select 1 from sessions where bucket_id = %s and parent = %s"
        " and (ended_seq is null or (ended_seq > %s and not swept)) limit 1",
        (bucket, digest_of(snapshot), since),
    )
    return await cursor.fetchone() is not None


async def alone_since(unit: Unit, bucket: UUID, since: int) -> bool:
    """Whether no retention and no operator's restore is open, or was not over at the seq `since`."""
    cursor = await unit.execute(
        "select 1 from sessions where bucket_id = %s and (purpose = %s or (purpose = %s and device_id = %s))"
        " and (ended_seq is null or (ended_seq > %s and not swept)) limit 1",
        (bucket, Purpose.RETENTION.value, Purpose.ADOPT.value, NOBODY, since),
    )
    return await cursor.fetchone() is None


async def keep_something(unit: Unit, session: UUID) -> None:
    """Remember that a snapshot or an index file stays, which the session wanted to be rid of."""
    await unit.execute("update sessions set kept_something = true where id = %s", (session,))


async def has_kept_something(unit: Unit, session: UUID) -> bool:
    cursor = await unit.execute("select 1 from sessions where id = %s and kept_something", (session,))
    return await cursor.fetchone() is not None


async def is_restics_key(unit: Unit, bucket: UUID, key: ObjectName) -> bool:
    """Whether a restic with a lock has put a key; not known any more when the row of its session has gone."""
    cursor = await unit.execute(
        "select 1 from objects o join sessions c on c.id = o.created_by"
        " where o.bucket_id = %s and o.kind = %s and o.sha256 = %s and c.purpose = %s",
        (bucket, key.kind.value, digest_of(key), Purpose.RESTIC.value),
    )
    return await cursor.fetchone() is not None


def _of(row: SessionRow | None) -> dict[str, object]:
    return {"session": row.id, "opened": row.opened_seq} if row else {}
