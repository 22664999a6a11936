"""Open sessions of all buckets, as a worker reads them: for operators."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit
from services.storage.store.reaping import FIRST_IN_BASKET, FIRST_LACKED, HOLDS_AFTER, kinds


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session and what it holds: condemned objects that the reaper could take, did this session not see them.

    What several sessions see counts for each of them: it goes when the last one has ended.
    """

    id: UUID
    bucket_id: UUID
    tenant_id: UUID
    user_id: UUID
    device_id: UUID
    purpose: str
    opened_seq: int
    opened: datetime
    last_beat: datetime
    held_objects: int
    held_bytes: int


# Each condemned object is looked at once, however many sessions there are: it falls between the openings of two, and
# what lies after an opening is summed up from these.
_PAGE = f"""
with shown as (
    select s.*, ({HOLDS_AFTER})::bigint as holds_after from sessions s
    where s.ended_seq is null and (%(tenant)s::uuid is null or s.tenant_id = %(tenant)s)
      and (%(bucket)s::uuid is null or s.bucket_id = %(bucket)s)
      and (%(after_bucket)s::uuid is null or (s.bucket_id, s.opened_seq) > (%(after_bucket)s, %(after_seq)s))
    order by s.bucket_id, s.opened_seq limit %(limit)s
), openings as materialized (
    select b.id as bucket_id, array_agg(distinct s.holds_after order by s.holds_after) as seqs,
           least({FIRST_IN_BASKET}, {FIRST_LACKED}) as first_to_wait
    from shown s join buckets b on b.id = s.bucket_id group by b.id
), held as (
    select n.bucket_id, width_bucket(o.condemned_seq, n.seqs) as place, count(*) as objects, sum(o.size) as bytes
    from openings n join objects o on o.bucket_id = n.bucket_id and o.state = 'condemned'
     and o.kind = any(%(kinds)s) and o.condemned_seq > n.seqs[1]
     and (n.first_to_wait is null or o.condemned_seq < n.first_to_wait)
    group by n.bucket_id, place
)
select s.id, s.bucket_id, s.tenant_id, s.user_id, s.device_id, s.purpose, s.opened_seq, s.opened, s.last_beat,
       total.objects as held_objects, total.bytes as held_bytes
from shown s join openings n on n.bucket_id = s.bucket_id cross join lateral (
    select coalesce(sum(h.objects), 0)::bigint as objects, coalesce(sum(h.bytes), 0)::bigint as bytes from held h
    where h.bucket_id = s.bucket_id and h.place >= width_bucket(s.holds_after, n.seqs)) as total
order by s.bucket_id, s.opened_seq
"""  # noqa: S608 - constants


async def page(
    unit: Unit,
    tenant: UUID | None,
    bucket: UUID | None,
    basket: timedelta,
    *,
    after: tuple[UUID, int] | None,
    limit: int,
) -> list[OpenSession]:
    """Of one tenant or all, of one bucket or all: by bucket, the oldest opening first, from after bucket and seq."""
    after_bucket, after_seq = after or (None, 0)
    async with unit.cursor(row_factory=class_row(OpenSession)) as cursor:
        await cursor.execute(
            _PAGE,
            {
                "tenant": tenant,
                "bucket": bucket,
                "basket": basket,
                "kinds": kinds(),
                "after_bucket": after_bucket,
                "after_seq": after_seq,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def bucket_of(unit: Unit, session: UUID, tenant: UUID | None) -> UUID | None:
    """The bucket of a session, open or over; None if there is none, or not in the tenant."""
    cursor = await unit.execute(
        "select bucket_id from sessions where id = %s and (%s::uuid is null or tenant_id = %s)",
        (session, tenant, tenant),
    )
    row = await cursor.fetchone()
    return row[0] if row else None
