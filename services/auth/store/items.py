from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = "id, tenant_id, user_id, device_id, engine, sealed, version, modified"


@dataclass(frozen=True, slots=True)
class Item:
    id: UUID
    tenant_id: UUID
    user_id: UUID
    device_id: UUID
    engine: str
    sealed: bytes
    version: int
    modified: datetime


async def insert(unit: Unit, item: Item) -> bool:
    """False when the id is taken, by whomever."""
    cursor = await unit.execute(
        f"insert into items ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - constant
        " on conflict do nothing",
        (
            item.id,
            item.tenant_id,
            item.user_id,
            item.device_id,
            item.engine,
            item.sealed,
            item.version,
            item.modified,
        ),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, item: UUID) -> Item | None:
    async with unit.cursor(row_factory=class_row(Item)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from items where id = %s", (item,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def replace(unit: Unit, item: Item, *, former: int) -> bool:
    """False when the stored version is not `former`."""
    cursor = await unit.execute(
        "update items set engine = %s, sealed = %s, version = %s, modified = %s where id = %s and version = %s",
        (item.engine, item.sealed, item.version, item.modified, item.id, former),
    )
    return cursor.rowcount == 1


async def delete(unit: Unit, item: UUID) -> None:
    await unit.execute("delete from items where id = %s", (item,))


async def delete_of_device(unit: Unit, device: UUID) -> None:
    await unit.execute("delete from items where device_id = %s", (device,))


async def page(unit: Unit, user: UUID, device: UUID | None, after: UUID, limit: int) -> list[Item]:
    """The items after an id, by id; of one device, or of all."""
    async with unit.cursor(row_factory=class_row(Item)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from items where user_id = %(user)s and id > %(after)s"  # noqa: S608 - constant
            " and (%(device)s::uuid is null or device_id = %(device)s) order by id limit %(limit)s",
            {"user": user, "after": after, "device": device, "limit": limit},
        )
        return await cursor.fetchall()
