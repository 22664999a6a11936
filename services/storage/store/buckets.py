"""Rows of buckets and their homes."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.errors import LockNotAvailable
from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a transaction needs of a bucket, whose row it has usually locked; `quota_bytes` 0 is no limit.

    `live_bytes` are those of packs. `braked`: nothing is condemned until an operator releases it; `is_released`: one
    has done so less than a day ago. `quota_group`: whose quota it is under with others (store/quotas.py).
    `follows`: the cluster that has the bucket to write to, if it is another one. `adopting`: files that were copied by
    hand are being entered, and some may still be out.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    seq: int
    copies: int
    ack_copies: int
    quota_bytes: int
    bytes: int
    lock_days: int
    braked: datetime | None
    is_released: bool
    live_snapshots: int
    live_bytes: int
    quota_group: str | None
    follows: str | None
    adopting: bool


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as other roles see it; `missing_copies` counts an object once for each home that lacks it.

    `lost_objects` are those that every home lacks.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    copies: int
    ack_copies: int
    quota_bytes: int
    objects: int
    bytes: int
    created: datetime
    home_nodes: list[str]
    missing_copies: int
    lost_objects: int
    quota_group: str | None


@dataclass(frozen=True, slots=True)
class NewBucket:
    """What whoever creates a bucket chooses."""

    id: UUID
    tenant_id: UUID
    user_id: UUID
    copies: int
    ack_copies: int
    quota_bytes: int


@dataclass(frozen=True, slots=True)
class Home:
    """A node that holds a bucket; `live` by its heartbeat and the database's clock."""

    node_id: str
    public_endpoint: str
    internal_endpoint: str
    live: bool


# The columns of a BucketState, of a bucket `b`.
STATE = """
b.id, b.tenant_id, b.user_id, b.seq, b.copies, b.ack_copies, b.quota_bytes, b.bytes, b.lock_days, b.braked,
coalesce(b.released > now() - interval '24 hours', false) as is_released, b.live_snapshots, b.live_bytes, b.quota_group,
b.follows, b.adopting
"""
_PEEK = f"select {STATE} from buckets b where b.id = %s"  # noqa: S608 - constants
# In one statement, for each call takes this lock: a row is locked after it was joined with the other one, whose making
# sets the patience of the transaction.
_LOCK_PATIENTLY = f"""
with patience as materialized (select set_config('lock_timeout', %s, true))
select {STATE} from buckets b cross join patience where b.id = %s for update of b
"""  # noqa: S608 - constants
_SHOWN = """
select b.id, b.tenant_id, b.user_id, b.copies, b.ack_copies, b.quota_bytes, b.objects, b.bytes, b.created,
       b.quota_group,
       array(select h.node_id from homes h where h.bucket_id = b.id order by h.node_id) as home_nodes,
       (select count(*) from missing_copies m where m.bucket_id = b.id) as missing_copies,
       (select count(*) from (
           select 1 from missing_copies m join objects o on o.id = m.object_id and o.state <> 'deleting'
           join homes j on j.bucket_id = m.bucket_id and j.node_id = m.node_id and not j.joining
           where m.bucket_id = b.id group by m.object_id
           having count(*) >= (select count(*) from homes h where h.bucket_id = b.id and not h.joining))
           as lost) as lost_objects
from buckets b
"""
_HOMES = """
select h.node_id, n.public_endpoint, n.internal_endpoint, n.last_seen > now() - make_interval(secs => %s) as live
from homes h join nodes n on n.id = h.node_id where h.bucket_id = %s and not h.joining order by h.node_id
"""


async def lock(unit: Unit, bucket: UUID, patience_seconds: float = 0) -> BucketState | None:
    """Lock the bucket's row: the first statement of every transaction that changes the bucket.

    A statement of its own, so that the next one's snapshot is taken when the lock is held. None if the unit's scope
    has no such bucket. With `patience_seconds` it raises TimeoutError when it waits for longer.
    """
    async with unit.cursor(row_factory=class_row(BucketState)) as cursor:
        if patience_seconds:
            try:
                await cursor.execute(_LOCK_PATIENTLY, (f"{round(patience_seconds * 1000)}", bucket))
            except LockNotAvailable:
                raise TimeoutError from None
        else:
            await cursor.execute(_PEEK + " for update", (bucket,))
        return await cursor.fetchone()


async def peek(unit: Unit, bucket: UUID) -> BucketState | None:
    """As `lock`, without the lock: for refusing early what will be asked again under it."""
    async with unit.cursor(row_factory=class_row(BucketState)) as cursor:
        await cursor.execute(_PEEK, (bucket,))
        return await cursor.fetchone()


async def set_seq(unit: Unit, bucket: UUID, seq: int) -> None:
    """Write the bucket's new seq; the row is locked by this transaction."""
    await unit.execute("update buckets set seq = %s where id = %s", (seq, bucket))


async def insert(unit: Unit, bucket: NewBucket) -> bool:
    """False if the id is taken, be it by a bucket that the unit's scope cannot see."""
    cursor = await unit.execute(
        "insert into buckets (id, tenant_id, user_id, copies, ack_copies, quota_bytes)"
        " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
        (bucket.id, bucket.tenant_id, bucket.user_id, bucket.copies, bucket.ack_copies, bucket.quota_bytes),
    )
    return cursor.rowcount == 1


async def insert_homes(unit: Unit, bucket: NewBucket, nodes: list[str]) -> None:
    await unit.execute(
        "insert into homes (bucket_id, node_id, tenant_id, user_id) select %s, unnest(%s::text[]), %s, %s",
        (bucket.id, nodes, bucket.tenant_id, bucket.user_id),
    )


async def get(unit: Unit, bucket: UUID) -> Bucket | None:
    async with unit.cursor(row_factory=class_row(Bucket)) as cursor:
        await cursor.execute(_SHOWN + "where b.id = %s", (bucket,))
        return await cursor.fetchone()


async def page(unit: Unit, after: UUID | None, limit: int) -> list[Bucket]:
    async with unit.cursor(row_factory=class_row(Bucket)) as cursor:
        await cursor.execute(
            _SHOWN + "where %s::uuid is null or b.id > %s order by b.id limit %s", (after, after, limit)
        )
        return await cursor.fetchall()


async def homes(unit: Unit, bucket: UUID, silent_seconds: float) -> list[Home]:
    """The homes that have something of the bucket; a node that was silent for longer than that is not live."""
    async with unit.cursor(row_factory=class_row(Home)) as cursor:
        await cursor.execute(_HOMES, (silent_seconds, bucket))
        return await cursor.fetchall()


async def count_braked(unit: Unit) -> int:
    """Buckets that the brake on mass removal holds."""
    cursor = await unit.execute("select count(*) from buckets where braked is not null")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def count_adopting(unit: Unit) -> int:
    """Buckets in which not all files that were copied by hand are in."""
    cursor = await unit.execute("select count(*) from buckets where adopting")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def count_short(unit: Unit) -> int:
    """Buckets that have fewer homes than they are to have copies. One that is joining does not count."""
    cursor = await unit.execute(
        "select count(*) from buckets b"
        " where (select count(*) from homes h where h.bucket_id = b.id and not h.joining) < b.copies"
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def totals(unit: Unit) -> tuple[int, int, int]:
    """Buckets, objects and bytes of the whole cluster."""
    cursor = await unit.execute("select count(*), coalesce(sum(objects), 0), coalesce(sum(bytes), 0) from buckets")
    row = await cursor.fetchone()
    return (int(row[0]), int(row[1]), int(row[2])) if row else (0, 0, 0)
