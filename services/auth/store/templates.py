from dataclasses import astuple, dataclass
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = "id, tenant_id, name, description, cluster, copies, ack_copies, quota_bytes"


@dataclass(frozen=True, slots=True)
class Template:
    """Its fields are in the order of the columns."""

    id: UUID
    tenant_id: UUID
    name: str
    description: str
    cluster: str
    copies: int
    ack_copies: int
    quota_bytes: int  # of each vault; 0: no limit


async def put(unit: Unit, template: Template) -> Template:
    """Create, or replace the tenant's template of that name, which keeps its id."""
    async with unit.cursor(row_factory=class_row(Template)) as cursor:
        await cursor.execute(
            f"insert into templates ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - constant
            " on conflict (tenant_id, name) do update set description = excluded.description,"
            " cluster = excluded.cluster, copies = excluded.copies, ack_copies = excluded.ack_copies,"
            f" quota_bytes = excluded.quota_bytes returning {_COLUMNS}",
            astuple(template),
        )
        stored = await cursor.fetchone()
        assert stored is not None, "an upsert returns its row"  # noqa: S101 - for the type checker
        return stored


async def insert(unit: Unit, template: Template) -> bool:
    """False when the tenant has one of that name, or somebody one of that id."""
    cursor = await unit.execute(
        f"insert into templates ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",  # noqa: S608 - constant
        astuple(template),
    )
    return cursor.rowcount == 1


async def find(unit: Unit, name: str) -> Template | None:
    async with unit.cursor(row_factory=class_row(Template)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from templates where name = %s", (name,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def names(unit: Unit) -> list[str]:
    cursor = await unit.execute("select name from templates order by name limit 20")
    return [row[0] for row in await cursor.fetchall()]


async def page(unit: Unit, after: str, limit: int) -> list[Template]:
    """The tenant's templates after a name, by name."""
    async with unit.cursor(row_factory=class_row(Template)) as cursor:
        await cursor.execute(
            f'select {_COLUMNS} from templates where name collate "C" > %s'  # noqa: S608 - constant
            ' order by name collate "C" limit %s',
            (after, limit),
        )
        return await cursor.fetchall()
