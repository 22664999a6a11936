"""Rows of buckets that are filled from another cluster: what is asked for, who is at work on it, how far it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from domain.names import ObjectKind
from services.common.database import Unit
from services.storage.store.objects import LOST


@dataclass(frozen=True, slots=True)
class Following:
    """A bucket that follows the one with its id on the cluster `source`.

    All that was to be seen there at `upto_seq` is here, and up to `seen_seq` nothing more has come. `complete`: all was
    here once, of the catalogue that is meant. `session_id` is the last session that was opened to read there, if any;
    `strayed`: a catalogue there did not know it, so that was another one, or the one here was added to by a rescan.
    `kept_objects` were removed there and are held here. `standing` is what the last inventory has left. `shortfalls`
    counts those in a row that could not bring all.
    """

    bucket_id: UUID
    tenant_id: UUID
    user_id: UUID
    source: str
    endpoints: list[str]
    source_endpoints: list[str]
    removals: bool
    upto_seq: int
    complete: bool
    session_id: UUID | None
    seen_seq: int
    strayed: bool
    inventory_due: datetime
    needs_inventory: bool
    shortfalls: int
    node_id: str
    attempts: int
    seen: datetime | None
    behind_objects: int
    behind_bytes: int
    behind_since: datetime | None
    kept_objects: int
    damaged_objects: int
    source_lock_days: int
    source_braked: bool
    standing: str
    problem: str

    @property
    def addresses(self) -> list[str]:
        """Of its nodes: as the other cluster says, then as the operator has said."""
        return list(dict.fromkeys((*self.source_endpoints, *self.endpoints)))


@dataclass(frozen=True, slots=True)
class Behind:
    """What is still to come: objects, bytes, and for how many seconds the oldest of them has been stored.

    Also how the bucket is protected there, and where its nodes are.
    """

    objects: int
    bytes: int
    oldest_seconds: float
    lock_days: int
    braked: bool
    endpoints: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sums:
    """Of all buckets of the cluster that follow others."""

    buckets: int
    objects: int
    bytes: int
    oldest_seconds: float
    failing: int


_COLUMNS = (
    "bucket_id, tenant_id, user_id, source, endpoints, source_endpoints, removals, upto_seq,"
    " complete, session_id, seen_seq, strayed,"
    " inventory_due, inventory_due <= now() as needs_inventory, shortfalls, node_id, attempts, seen,"
    " behind_objects, behind_bytes, behind_since,"
    " kept_objects, damaged_objects, source_lock_days, source_braked, standing, problem"
)
_PUT = """
insert into follows (bucket_id, tenant_id, user_id, source, endpoints, removals)
values (%(bucket)s, %(tenant)s, %(user)s, %(source)s, %(endpoints)s, %(removals)s)
on conflict (bucket_id) do update set endpoints = excluded.endpoints, removals = excluded.removals,
    due = now(), lease = null, inventory_due = now(),
    session_id = case when follows.strayed then null else follows.session_id end,
    complete = follows.complete and not follows.strayed, strayed = false
"""
# As of missing copies: a lease and not a lock that is held while bytes travel.
_CLAIM = f"""
update follows set due = now() + make_interval(secs => %(lease_seconds)s), lease = gen_random_uuid(),
    node_id = %(node)s, attempts = attempts + 1
where bucket_id in (
    with held as (select source from follows where node_id = %(node)s and lease is not null and due > now()),
        waiting as (select distinct source from follows where due <= now()),
        sources as (select count(*) as count from (select source from held union select source from waiting) s)
    select f.bucket_id from follows f where f.due <= now() and f.bucket_id in (
        select one.bucket_id from waiting s cross join sources cross join lateral (
            select o.bucket_id from follows o where o.source = s.source and o.due <= now() order by o.due
            limit greatest(0, greatest(1, %(places)s / (sources.count + 1)) - (
                select count(*) from held h where h.source = s.source))) one)
    order by f.due limit %(limit)s for update skip locked)
returning {_COLUMNS}, lease
"""  # noqa: S608 - constants
_HELD = "bucket_id = %(bucket)s and lease = %(lease)s"
# An inventory that was ordered meanwhile is still to come.
_REACHED = f"""
update follows set upto_seq = %(seq)s, seen_seq = %(seq)s,
    complete = complete or (%(compared)s and %(damaged)s::bigint = 0),
    inventory_due = case when inventory_due <> %(due)s or %(seconds)s::float is null then inventory_due
        when %(compared)s then now() + make_interval(secs => %(seconds)s)
        else least(inventory_due, now() + make_interval(secs => %(seconds)s)) end,
    shortfalls = case when %(damaged)s::bigint = 0 and %(compared)s then 0
        when %(compared)s then shortfalls + 1 else shortfalls end,
    damaged_objects = %(damaged)s + case when %(compared)s then 0 else damaged_objects end,
    kept_objects = coalesce(%(kept)s, kept_objects), standing = coalesce(%(standing)s, standing)
where {_HELD}
"""  # noqa: S608 - constants
_HERE = f"""
select o.sha256 from objects o
where o.bucket_id = %s and o.kind = %s and o.sha256 = any(%s) and o.state = 'live' and not ({LOST})
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Claimed(Following):
    """One that a node is at work on; every step of it shows the lease."""

    lease: UUID


async def put(
    unit: Unit, bucket: UUID, tenant: UUID, user: UUID, *, source: str, endpoints: Sequence[str], removals: bool
) -> None:
    """Ask for a following, or change what is asked for; the catalogue that is there now is the one that is meant.

    Whoever is at work on it is no more: it was told otherwise.
    """
    asked = {"bucket": bucket, "tenant": tenant, "user": user, "source": source}
    await unit.execute(_PUT, {**asked, "endpoints": list(endpoints), "removals": removals})


async def remove(unit: Unit, bucket: UUID) -> None:
    await unit.execute("delete from follows where bucket_id = %s", (bucket,))


async def get(unit: Unit, bucket: UUID) -> Following | None:
    async with unit.cursor(row_factory=class_row(Following)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from follows where bucket_id = %s", (bucket,))  # noqa: S608 - constants
        return await cursor.fetchone()


async def page(unit: Unit, after: UUID | None, limit: int) -> list[Following]:
    """By bucket, from after `after`."""
    async with unit.cursor(row_factory=class_row(Following)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from follows where %s::uuid is null or bucket_id > %s order by bucket_id limit %s",  # noqa: S608 - constants
            (after, after, limit),
        )
        return await cursor.fetchall()


async def claim(unit: Unit, node: str, limit: int, lease_seconds: float, *, places: int) -> list[Claimed]:
    """Take what is due; nobody else gets it before the lease is over.

    Of one source no more, with what the node has of it already, than leaves as many of its `places` to each other one
    of which something is due or at work here, and to one that comes.
    """
    asked = {"node": node, "places": places}
    async with unit.cursor(row_factory=class_row(Claimed)) as cursor:
        await cursor.execute(_CLAIM, {**asked, "limit": limit, "lease_seconds": lease_seconds})
        return await cursor.fetchall()


async def drop_leases(unit: Unit, node: str) -> None:
    """Have what the node was at work on looked at now: it has just started, so nothing of it is at work."""
    await unit.execute("update follows set due = now(), lease = null where node_id = %s and lease is not null", (node,))


async def renew(unit: Unit, one: Claimed, lease_seconds: float) -> bool:
    """False if another has it by now, or it follows no more."""
    cursor = await unit.execute(
        f"update follows set due = now() + make_interval(secs => %(seconds)s) where {_HELD}",  # noqa: S608 - constants
        {"bucket": one.bucket_id, "lease": one.lease, "seconds": lease_seconds},
    )
    return cursor.rowcount == 1


async def lock(unit: Unit, one: Claimed) -> bool:
    """As `renew`, up to the end of the transaction, which nobody else takes it over in."""
    cursor = await unit.execute(
        f"select 1 from follows where {_HELD} for update",  # noqa: S608 - constants
        {"bucket": one.bucket_id, "lease": one.lease},
    )
    return await cursor.fetchone() is not None


async def note_behind(unit: Unit, one: Claimed, behind: Behind) -> None:
    """What the source has said just now is still to come, or what was found out since."""
    await unit.execute(
        "update follows set seen = now(), behind_objects = %(objects)s, behind_bytes = %(bytes)s,"  # noqa: S608 - constants
        # Another catalogue may know nothing of how the bucket is protected.
        " source_lock_days = greatest(%(lock_days)s, case when strayed then source_lock_days end),"
        " source_braked = %(braked)s or (strayed and source_braked), source_endpoints = %(endpoints)s,"
        # What comes back, or is entered by a rescan there, is old and has not waited: nothing did at the look before.
        " behind_since = case when %(objects)s::bigint > 0 then"
        " greatest(now() - make_interval(secs => %(oldest)s), coalesce(behind_since, seen)) end"
        f" where {_HELD}",
        {
            "bucket": one.bucket_id,
            "lease": one.lease,
            "objects": behind.objects,
            "bytes": behind.bytes,
            "oldest": behind.oldest_seconds,
            "lock_days": behind.lock_days,
            "braked": behind.braked,
            "endpoints": list(behind.endpoints),
        },
    )


async def note_copied(unit: Unit, one: Claimed, objects: int, size: int) -> None:
    """So much less is to come."""
    await unit.execute(
        "update follows set behind_objects = greatest(0, behind_objects - %(objects)s),"  # noqa: S608 - constants
        " behind_bytes = greatest(0, behind_bytes - %(bytes)s),"
        f" behind_since = case when behind_objects > %(objects)s then behind_since end where {_HELD}",
        {"bucket": one.bucket_id, "lease": one.lease, "objects": objects, "bytes": size},
    )


async def reached(
    unit: Unit,
    one: Claimed,
    seq: int,
    *,
    compared: bool,
    damaged: int,
    inventory_seconds: float | None = None,
    kept: int | None = None,
    standing: str | None = None,
) -> None:
    """All that was to be seen there in a session that was opened at `seq` is here.

    But for the `damaged`. `compared`: by an inventory. `inventory_seconds`: after which the next is to be. `kept` when
    removals were followed. `standing`: what it has left, where that is news.
    """
    await unit.execute(
        _REACHED,
        {
            "bucket": one.bucket_id,
            "lease": one.lease,
            "seq": seq,
            "due": one.inventory_due,
            "compared": compared,
            "damaged": damaged,
            "seconds": inventory_seconds,
            "kept": kept,
            "standing": standing,
        },
    )


async def nothing_came(unit: Unit, one: Claimed, seq: int) -> None:
    """Between the seq that was reached and this one, sessions there have stored nothing."""
    await unit.execute(
        f"update follows set seen_seq = %(seq)s where {_HELD}",  # noqa: S608 - constants
        {"bucket": one.bucket_id, "lease": one.lease, "seq": seq},
    )


async def begin(unit: Unit, one: Claimed, session: UUID) -> None:
    """What is brought from now on was read in this session there."""
    await unit.execute(
        f"update follows set session_id = %(session)s where {_HELD}",  # noqa: S608 - constants
        {"bucket": one.bucket_id, "lease": one.lease, "session": session},
    )


async def stray(unit: Unit, one: Claimed, standing: str) -> None:
    """The catalogue there is another one than that which was read: remembered until `put`. All is compared next."""
    await unit.execute(
        "update follows set strayed = true, inventory_due = now(), standing = %(standing)s"  # noqa: S608 - constants
        f" where {_HELD}",
        {"bucket": one.bucket_id, "lease": one.lease, "standing": standing},
    )


async def distrust(unit: Unit, bucket: UUID) -> bool:
    """As `stray`, of the catalogue here: what was entered in it just now may be known nowhere else.

    Whoever is at work on it is no more; its sessions are for the caller to end. False if it was so, or follows none.
    """
    cursor = await unit.execute(
        "update follows set strayed = true, inventory_due = now(), due = now(), lease = null"
        " where bucket_id = %s and not strayed",
        (bucket,),
    )
    return cursor.rowcount == 1


async def let_go(unit: Unit, one: Claimed, seconds: float, problem: str, *, compare_all: bool) -> None:
    """Have it looked at again after `seconds`; the lease is over. `problem`: empty, or why the look has failed.

    `compare_all`: an inventory is to be made then.
    """
    await unit.execute(
        "update follows set due = now() + make_interval(secs => %(seconds)s), lease = null, problem = %(problem)s,"  # noqa: S608 - constants
        " attempts = case when %(problem)s = '' then 0 else attempts end,"
        f" inventory_due = case when %(compare_all)s then now() else inventory_due end where {_HELD}",
        {
            "bucket": one.bucket_id,
            "lease": one.lease,
            "seconds": seconds,
            "problem": problem,
            "compare_all": compare_all,
        },
    )


async def here(unit: Unit, bucket: UUID, kind: ObjectKind, names: Sequence[bytes]) -> set[bytes]:
    """Those of the objects with these SHA-256 that are live in the bucket, and whole on some home."""
    cursor = await unit.execute(_HERE, (bucket, kind.value, list(names)))
    return {bytes(row[0]) for row in await cursor.fetchall()}


async def root_file(unit: Unit, bucket: UUID, kind: ObjectKind) -> bytes | None:
    """The SHA-256 of a root file; None if there is none."""
    cursor = await unit.execute("select sha256 from objects where bucket_id = %s and kind = %s", (bucket, kind.value))
    row = await cursor.fetchone()
    return bytes(row[0]) if row else None


async def live_page(unit: Unit, bucket: UUID, kind: ObjectKind, after: bytes, limit: int) -> list[bytes]:
    """The SHA-256 of live objects of a kind, in order, from after `after`."""
    cursor = await unit.execute(
        "select sha256 from objects where bucket_id = %s and kind = %s and state = 'live' and sha256 > %s"
        " order by sha256 limit %s",
        (bucket, kind.value, after, limit),
    )
    return [bytes(row[0]) for row in await cursor.fetchall()]


async def sums(unit: Unit) -> Sums:
    async with unit.cursor(row_factory=class_row(Sums)) as cursor:
        await cursor.execute(
            "select count(*) as buckets, coalesce(sum(behind_objects), 0) as objects,"
            " coalesce(sum(behind_bytes), 0) as bytes,"
            " coalesce(extract(epoch from now() - min(behind_since)), 0)::float as oldest_seconds,"
            " count(*) filter (where problem <> '' or standing <> '') as failing from follows"
        )
        return await cursor.fetchone() or Sums(0, 0, 0, 0.0, 0)
