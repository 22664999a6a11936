from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = (
    "id, tenant_id, user_id, name, platform, client_version, public_key, registered, last_seen, revoked, append_only"
)


@dataclass(frozen=True, slots=True)
class Device:
    id: UUID
    tenant_id: UUID
    user_id: UUID
    name: str
    platform: str
    client_version: str
    public_key: bytes  # Ed25519, raw, 32 bytes
    registered: datetime
    last_seen: datetime
    revoked: datetime | None = None
    append_only: bool = False


async def insert(unit: Unit, device: Device) -> bool:
    """False when the id is taken, by whomever."""
    cursor = await unit.execute(
        f"insert into devices ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - constant
        " on conflict do nothing",
        (
            device.id,
            device.tenant_id,
            device.user_id,
            device.name,
            device.platform,
            device.client_version,
            device.public_key,
            device.registered,
            device.last_seen,
            device.revoked,
            device.append_only,
        ),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, device: UUID) -> Device | None:
    async with unit.cursor(row_factory=class_row(Device)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from devices where id = %s", (device,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def refresh(unit: Unit, device: UUID, platform: str, client_version: str, now: datetime) -> None:
    """Note what a device says of itself as it signs in. Its name stays: the user may have given another."""
    await unit.execute(
        "update devices set platform = %s, client_version = %s, last_seen = %s where id = %s",
        (platform, client_version, now, device),
    )


async def seen(unit: Unit, device: UUID, now: datetime, unless_since: datetime) -> None:
    """Note that a device called, unless that was noted lately."""
    await unit.execute(
        "update devices set last_seen = %s where id = %s and last_seen < %s", (now, device, unless_since)
    )


async def page(unit: Unit, user: UUID, after: UUID, limit: int) -> list[Device]:
    """The devices in force after an id, by id."""
    async with unit.cursor(row_factory=class_row(Device)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from devices where user_id = %s and id > %s and revoked is null"  # noqa: S608 - constant
            " order by id limit %s",
            (user, after, limit),
        )
        return await cursor.fetchall()


async def rename(unit: Unit, device: UUID, name: str) -> bool:
    """False when no such device is in force."""
    cursor = await unit.execute("update devices set name = %s where id = %s and revoked is null", (name, device))
    return cursor.rowcount == 1


async def set_append_only(unit: Unit, device: UUID, *, append_only: bool) -> bool:
    """False when no such device is in force."""
    cursor = await unit.execute(
        "update devices set append_only = %s where id = %s and revoked is null", (append_only, device)
    )
    return cursor.rowcount == 1


async def revoke(unit: Unit, device: UUID, now: datetime) -> bool:
    """False when there is no such device; one revoked before stays as it is."""
    cursor = await unit.execute("update devices set revoked = coalesce(revoked, %s) where id = %s", (now, device))
    return cursor.rowcount == 1
