"""Sessions as an operator sees and ends them: those that hold the reaper back above all (docs/sessions.md, rule 11)."""

from datetime import timedelta
from uuid import UUID

from services.common.database import Database
from services.common.errors import NotFound
from services.storage.store import buckets, control, sessions
from services.storage.store.control import OpenSession


async def page(
    db: Database,
    tenant: UUID | None,
    bucket: UUID | None,
    basket: timedelta,
    *,
    after: tuple[UUID, int] | None,
    limit: int,
) -> list[OpenSession]:
    """Open sessions of a tenant or all, in a bucket or all, from after a bucket and the seq of an opening."""
    async with db.worker() as unit:
        return await control.page(unit, tenant, bucket, basket, after=after, limit=limit)


async def end(db: Database, session: UUID, tenant: UUID | None) -> bool:
    """End a session, as its silence would; False if it was over. Raises NotFound if the tenant has none."""
    async with db.worker() as unit:
        found = await control.bucket_of(unit, session, tenant)
    if found is None:
        raise NotFound(what=f"session {session}")
    async with db.worker() as unit:
        bucket = await buckets.lock(unit, found)
        row = await sessions.get(unit, session)
        if bucket is None or row is None or row.ended_seq is not None:
            return False
        await sessions.end(unit, session, bucket.seq + 1)
        await buckets.set_seq(unit, bucket.id, bucket.seq + 1)
        return True
