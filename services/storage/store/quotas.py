"""Quotas of buckets, and those that several share: rows, and how full they are."""

from dataclasses import dataclass
from uuid import UUID

from psycopg import Rollback
from psycopg.errors import LockNotAvailable
from psycopg.rows import class_row

from services.common.database import Unit
from services.storage.store.buckets import BucketState

_LOCK = "select bytes from quotas where tenant_id = %s and name in ('', %s) order by name"
_ASK = """
select tenant_id, name, bytes, quota_used(tenant_id, name) as used from quotas
where tenant_id = %s and name in ('', %s) order by name
"""
_PAGE = """
select tenant_id, name, bytes, quota_used(tenant_id, name) as used from quotas
where %s::uuid is null or (tenant_id, name) > (%s, %s) order by tenant_id, name limit %s
"""
_PUT = """
insert into quotas (tenant_id, name, bytes) values (%s, %s, %s)
on conflict (tenant_id, name) do update set bytes = excluded.bytes
"""

_SET_BUCKET = """
update buckets b set quota_bytes = %s from (select id, quota_bytes from buckets where id = %s for update) before
where b.id = before.id returning before.quota_bytes, b.bytes
"""


@dataclass(frozen=True, slots=True)
class Quota:
    """`bytes` are the limit, `used` those of one copy of all objects under it. The name '' is the tenant's own."""

    tenant_id: UUID
    name: str
    bytes: int
    used: int

    @property
    def left(self) -> int:
        return self.bytes - self.used


async def of_bucket(unit: Unit, bucket: BucketState) -> list[Quota]:
    """Those that a bucket is under."""
    async with unit.cursor(row_factory=class_row(Quota)) as cursor:
        await cursor.execute(_ASK, (bucket.tenant_id, bucket.quota_group))
        return await cursor.fetchall()


async def hold(unit: Unit, bucket: BucketState, far: int | None) -> list[Quota]:
    """Those that a bucket is under, locked up to the end of the transaction, in the order of their names.

    With others that hold them too, as long as each has `far` bytes or more left; else alone, so that what is left stays
    so; None: alone in any case. Raises TimeoutError when it waits for longer than it would for the bucket's row.
    """
    try:
        return await _held(unit, bucket, far)
    except LockNotAvailable:
        raise TimeoutError from None


async def _held(unit: Unit, bucket: BucketState, far: int | None) -> list[Quota]:
    if far is not None:
        async with unit.transaction() as attempt:
            found = await _locked(unit, bucket, "for share")
            if all(quota.left >= far for quota in found):
                return found
            # Lets go of the lock: two that hold it together, and both want it alone, would wait for each other.
            raise Rollback(attempt)
    return await _locked(unit, bucket, "for no key update")


async def _locked(unit: Unit, bucket: BucketState, how: str) -> list[Quota]:
    # Statements of their own, so that the second one sees what was committed before the lock was had.
    await unit.execute(f"{_LOCK} {how}", (bucket.tenant_id, bucket.quota_group))
    return await of_bucket(unit, bucket)


async def put(unit: Unit, tenant: UUID, name: str, limit: int) -> None:
    await unit.execute(_PUT, (tenant, name, limit))


async def remove(unit: Unit, tenant: UUID, name: str) -> None:
    await unit.execute("delete from quotas where tenant_id = %s and name = %s", (tenant, name))


async def page(unit: Unit, after: tuple[UUID, str] | None, limit: int) -> list[Quota]:
    """Quotas of all tenants by tenant and name, from the one behind `after` on."""
    tenant, name = after or (None, "")
    async with unit.cursor(row_factory=class_row(Quota)) as cursor:
        await cursor.execute(_PAGE, (tenant, tenant, name, limit))
        return await cursor.fetchall()


async def set_group(unit: Unit, bucket: UUID, name: str) -> bool:
    """Put a bucket under the quota of a group, or of none for the empty name; False if there is no such bucket."""
    cursor = await unit.execute("update buckets set quota_group = nullif(%s, '') where id = %s", (name, bucket))
    return cursor.rowcount == 1


async def set_bucket(unit: Unit, bucket: UUID, limit: int) -> tuple[int, int] | None:
    """Set the quota of one bucket. Answers what it was and the bytes that count; None if there is no such bucket."""
    cursor = await unit.execute(_SET_BUCKET, (limit, bucket))
    row = await cursor.fetchone()
    return None if row is None else (int(row[0]), int(row[1]))
