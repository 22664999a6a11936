"""What a cluster says of its buckets to those that follow them, and what these have said of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind, ObjectName
from services.common.database import Unit
from services.storage.store.copies import name_of
from services.storage.store.sessions import SessionRow


@dataclass(frozen=True, slots=True)
class BucketLook:
    """A bucket as one sees it that follows it; `objects`, `bytes` and `oldest_seconds` of what came after a seq.

    `known`: the reading session is, in which the follower has read all up to that seq.
    """

    tenant_id: UUID
    user_id: UUID
    copies: int
    ack_copies: int
    quota_bytes: int
    known: bool
    seq: int
    follows: str | None
    is_following: bool
    braked: bool
    lock_days: int
    config_sha256: bytes | None
    seal_sha256: bytes | None
    objects: int
    bytes: int
    oldest_seconds: float
    removed: bool


@dataclass(frozen=True, slots=True)
class Change:
    """An object that came, or came back, at `seq`; `id` orders what came together. `repacked`: a prune has put it."""

    seq: int
    id: int
    kind: str
    sha256: bytes
    size: int
    repacked: bool

    @property
    def name(self) -> ObjectName:
        return name_of(self.kind, bytes(self.sha256))


@dataclass(frozen=True, slots=True)
class FollowerCluster:
    """A cluster that has said that it follows a bucket, and has all of it up to `upto_seq` of its seq here."""

    cluster: str
    endpoints: list[str]
    upto_seq: int
    seen: datetime


# The number of the first migration whose nodes know of followers, 0013_regions.sql.
KNOWN_SINCE = 13
_SILENT_DAYS = 30
_SEQ = "coalesce(o.revived_seq, o.created_seq)"
_KINDS = ("config", "oort-vault", "keys", "data", "index", "snapshots")
# For each kind, as the index has it first.
_LOOK = f"""
select b.tenant_id, b.user_id, b.copies, b.ack_copies, b.quota_bytes, b.seq, b.follows,
       exists (select 1 from sessions s where s.id = %(session)s and s.bucket_id = b.id)
           or exists (select 1 from followers w where w.bucket_id = b.id and w.session_id = %(session)s) as known,
       exists (select 1 from follows f where f.bucket_id = b.id) as is_following,
       b.braked is not null as braked, b.lock_days, n.objects, n.bytes, n.oldest_seconds,
       exists (select 1 from unnest(%(kinds)s::text[]) k join objects c on c.bucket_id = b.id and c.kind = k
               and c.state = 'condemned' and c.condemned_seq > %(upto)s) as removed,
       (select r.sha256 from objects r where r.bucket_id = b.id and r.kind = 'config') as config_sha256,
       (select r.sha256 from objects r where r.bucket_id = b.id and r.kind = 'oort-vault') as seal_sha256
from buckets b cross join lateral (
    select count(*) as objects, coalesce(sum(o.size), 0)::bigint as bytes,
           coalesce(extract(epoch from now() - min(o.created)), 0)::float as oldest_seconds
    from unnest(%(kinds)s::text[]) k join objects o on o.bucket_id = b.id and o.kind = k and {_SEQ} > %(upto)s
    where o.state = 'live') n
where b.id = %(bucket)s
"""  # noqa: S608 - constants
_SEEN = "(o.state = 'live' or (o.state = 'condemned' and o.condemned_seq > %(opened)s))"
# A restic is known to prune from its first removal on: what it has put before looks like a backup's.
_REPACKED = "coalesce(p.purpose = 'retention' or (p.purpose = 'restic' and p.last_removal is not null), false)"
# Of what was put after the session was opened none is shown, so that a pass has an end. What was put before and came
# back since has its old seq of creation.
_CHANGES = f"""
select {_SEQ} as seq, o.id, o.kind, o.sha256, o.size, {_REPACKED} as repacked
from objects o left join sessions p on p.id = o.created_by
where o.bucket_id = %(bucket)s and o.kind = %(kind)s and {_SEQ} >= %(from_seq)s and {_SEEN}
  and o.created_seq <= %(opened)s and ({_SEQ}, o.id) > (%(seq)s, %(id)s)
order by {_SEQ}, o.id limit %(limit)s
"""  # noqa: S608 - constants
_GONE = f"""
select g.sha256 from unnest(%(names)s::bytea[]) as g (sha256) where not exists (
    select 1 from objects o where o.bucket_id = %(bucket)s and o.kind = %(kind)s and o.sha256 = g.sha256 and {_SEEN})
"""  # noqa: S608 - constants
_NOTE = """
insert into followers (bucket_id, cluster, tenant_id, user_id, endpoints, upto_seq, session_id)
select id, %(cluster)s, tenant_id, user_id, %(endpoints)s, %(upto)s, %(session)s from buckets where id = %(bucket)s
on conflict (bucket_id, cluster) do update
set endpoints = excluded.endpoints, upto_seq = excluded.upto_seq,
    session_id = coalesce(excluded.session_id, followers.session_id), seen = now()
where (followers.endpoints, followers.upto_seq, followers.session_id)
      is distinct from (excluded.endpoints, excluded.upto_seq, coalesce(excluded.session_id, followers.session_id))
   or followers.seen < now() - interval '1 minute'
"""


async def look(unit: Unit, bucket: UUID, upto_seq: int, session: UUID | None) -> BucketLook | None:
    async with unit.cursor(row_factory=class_row(BucketLook)) as cursor:
        await cursor.execute(_LOOK, {"bucket": bucket, "upto": upto_seq, "session": session, "kinds": list(_KINDS)})
        return await cursor.fetchone()


async def changes(
    unit: Unit, session: SessionRow, kind: ObjectKind, after_seq: int, *, after: tuple[int, int], limit: int
) -> list[Change]:
    """What the session sees of a kind, and came after `after_seq`, in order, from after the seq and id `after`."""
    asked = {"bucket": session.bucket_id, "kind": kind.value, "opened": session.sees_condemned_after}
    async with unit.cursor(row_factory=class_row(Change)) as cursor:
        await cursor.execute(
            # Each page begins in the index where the last one has ended.
            _CHANGES,
            {**asked, "from_seq": max(after_seq + 1, after[0]), "seq": after[0], "id": after[1], "limit": limit},
        )
        return await cursor.fetchall()


async def gone(unit: Unit, session: SessionRow, kind: ObjectKind, names: Sequence[bytes]) -> list[bytes]:
    """Those of the objects with these SHA-256 that the session does not see."""
    asked = {"bucket": session.bucket_id, "kind": kind.value, "opened": session.sees_condemned_after}
    cursor = await unit.execute(_GONE, {**asked, "names": list(names)})
    return [bytes(row[0]) for row in await cursor.fetchall()]


async def note_follower(
    unit: Unit, bucket: UUID, cluster: str, endpoints: Sequence[str], *, upto_seq: int, session: UUID | None
) -> None:
    """Remember who follows a bucket; written when it is news, or a minute old.

    `session`, which is known here, is so for longer than its own row is kept.
    """
    noted = {"bucket": bucket, "cluster": cluster, "upto": upto_seq, "session": session}
    await unit.execute(_NOTE, {**noted, "endpoints": list(endpoints)})


async def followers(unit: Unit, bucket: UUID, *, ever: bool = False) -> list[FollowerCluster]:
    """The clusters that follow a bucket, the one that was heard of last first.

    None that was silent for a month, unless all that `ever` did are asked for.
    """
    async with unit.cursor(row_factory=class_row(FollowerCluster)) as cursor:
        await cursor.execute(
            "select cluster, endpoints, upto_seq, seen from followers"
            " where bucket_id = %s and (%s or seen > now() - make_interval(days => %s)) order by seen desc, cluster",
            (bucket, ever, _SILENT_DAYS),
        )
        return await cursor.fetchall()


async def end_writers(unit: Unit, bucket: UUID, seq: int) -> int:
    """End every open session of a bucket, whose row is locked, that was not opened to read; answers how many."""
    cursor = await unit.execute(
        "update sessions set ended_seq = %s, ended = now() where bucket_id = %s and ended_seq is null"
        " and purpose <> 'read' returning id",
        (seq, bucket),
    )
    ended = [row[0] for row in await cursor.fetchall()]
    await unit.execute("delete from pins where session_id = any(%s)", (ended,))
    return len(ended)


async def set_follows(unit: Unit, bucket: UUID, cluster: str | None) -> None:
    """Say which cluster has the bucket to write to; None: this one. The bucket's row is locked."""
    await unit.execute("update buckets set follows = %s where id = %s", (cluster, bucket))


async def outdated(unit: Unit) -> list[str]:
    """Nodes of versions that neither refuse writers in a bucket that follows, nor mark what comes back.

    One that was silent for an hour is no longer waited for.
    """
    cursor = await unit.execute(
        "select id from nodes where catalogue < %s and state <> 'lost' and last_seen > now() - interval '1 hour'"
        " order by id",
        (KNOWN_SINCE,),
    )
    return [str(row[0]) for row in await cursor.fetchall()]


async def is_empty(unit: Unit, bucket: UUID) -> bool:
    """Whether the bucket never had anything, or nothing of it is left."""
    cursor = await unit.execute("select 1 from objects where bucket_id = %s limit 1", (bucket,))
    return await cursor.fetchone() is None
