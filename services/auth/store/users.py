from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = "id, tenant_id, username, role, suspended, created"


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class User:
    id: UUID
    tenant_id: UUID
    username: str
    role: str  # of Role
    suspended: bool
    created: datetime


async def insert(unit: Unit, user: User) -> bool:
    """False when the id, or the name in the tenant, is taken."""
    cursor = await unit.execute(
        f"insert into users ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s) on conflict do nothing",  # noqa: S608 - constant
        (user.id, user.tenant_id, user.username, user.role, user.suspended, user.created),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, user: UUID) -> User | None:
    async with unit.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from users where id = %s", (user,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def name_is_taken(unit: Unit, tenant: UUID, username: str) -> bool:
    cursor = await unit.execute("select 1 from users where tenant_id = %s and username = %s", (tenant, username))
    return await cursor.fetchone() is not None


async def page(unit: Unit, after: str, limit: int) -> list[User]:
    """The users after a name, by name."""
    async with unit.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            f'select {_COLUMNS} from users where username collate "C" > %s'  # noqa: S608 - constant
            ' order by username collate "C" limit %s',
            (after, limit),
        )
        return await cursor.fetchall()


async def set_suspended(unit: Unit, user: UUID, *, suspended: bool) -> bool:
    """False when there is no such user in sight."""
    cursor = await unit.execute("update users set suspended = %s where id = %s", (suspended, user))
    return cursor.rowcount == 1
