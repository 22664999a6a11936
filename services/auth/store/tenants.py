from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Tenant:
    id: UUID
    name: str
    is_first: bool
    created: datetime


async def insert(unit: Unit, tenant: Tenant) -> bool:
    """False when the id or the name is taken, or when there is a first tenant already."""
    cursor = await unit.execute(
        "insert into tenants (id, name, is_first, created) values (%s, %s, %s, %s) on conflict do nothing",
        (tenant.id, tenant.name, tenant.is_first, tenant.created),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, tenant: UUID) -> Tenant | None:
    async with unit.cursor(row_factory=class_row(Tenant)) as cursor:
        await cursor.execute("select id, name, is_first, created from tenants where id = %s", (tenant,))
        return await cursor.fetchone()
