"""Open sessions of all buckets, as a worker reads them: for operators."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session and what it holds: condemned objects whose time in the waste basket is over, which it may still see."""

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


_PAGE = """
select s.id, s.bucket_id, s.tenant_id, s.user_id, s.device_id, s.purpose, s.opened_seq, s.opened, s.last_beat,
       held.objects as held_objects, held.bytes as held_bytes
from sessions s cross join lateral (
    select count(*) as objects, coalesce(sum(o.size), 0)::bigint as bytes from objects o
    where o.bucket_id = s.bucket_id and o.state = 'condemned' and o.condemned <= now() - %(basket)s::interval
      and (o.condemned_seq > s.opened_seq or s.purpose = 'adopt')) as held
where s.ended_seq is null and (%(tenant)s::uuid is null or s.tenant_id = %(tenant)s)
  and (%(bucket)s::uuid is null or s.bucket_id = %(bucket)s)
  and (%(after_bucket)s::uuid is null or (s.bucket_id, s.opened_seq) > (%(after_bucket)s, %(after_seq)s))
order by s.bucket_id, s.opened_seq limit %(limit)s
"""


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
