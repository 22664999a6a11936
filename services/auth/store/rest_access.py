from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = "id, tenant_id, user_id, vault_id, device_id, append_only, created, revoked"


@dataclass(frozen=True, slots=True)
class RestAccessRow:
    """With what a restic opens a vault; the password is not stored."""

    id: UUID
    tenant_id: UUID
    user_id: UUID
    vault_id: UUID
    device_id: UUID
    append_only: bool
    created: datetime
    revoked: datetime | None = None


async def insert(unit: Unit, row: RestAccessRow) -> None:
    """Nothing if the device has one of the kind in force."""
    await unit.execute(
        f"insert into rest_access ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",  # noqa: S608 - constant
        (
            row.id,
            row.tenant_id,
            row.user_id,
            row.vault_id,
            row.device_id,
            row.append_only,
            row.created,
            row.revoked,
        ),
    )


async def in_force(unit: Unit, vault: UUID, device: UUID, *, append_only: bool) -> RestAccessRow | None:
    async with unit.cursor(row_factory=class_row(RestAccessRow)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from rest_access"  # noqa: S608 - constant
            " where vault_id = %s and device_id = %s and append_only = %s and revoked is null",
            (vault, device, append_only),
        )
        return await cursor.fetchone()


async def get(unit: Unit, access: UUID) -> RestAccessRow | None:
    async with unit.cursor(row_factory=class_row(RestAccessRow)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from rest_access where id = %s", (access,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def revoke(unit: Unit, vault: UUID, now: datetime) -> int:
    """End all that is in force for a vault; answers how many."""
    cursor = await unit.execute(
        "update rest_access set revoked = %s where vault_id = %s and revoked is null", (now, vault)
    )
    return cursor.rowcount
