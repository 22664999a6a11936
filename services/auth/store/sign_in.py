"""What is read across tenants: by the worker role, through services/auth/directory.py alone. Ids and names, no keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from services.auth.store.tenants import Tenant
from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a user's rows lie."""

    tenant_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class VaultNames:
    """What people call the vault in a bucket, its user and that one's tenant."""

    bucket_id: UUID
    vault: str
    username: str
    tenant: str
    removed: bool


async def tenant_named(unit: Unit, name: str) -> Tenant | None:
    """A tenant by its name; the first one for the empty name."""
    async with unit.cursor(row_factory=class_row(Tenant)) as cursor:
        await cursor.execute(
            "select id, name, is_first, created from tenants where case when %(name)s = '' then is_first"
            " else name = %(name)s end",
            {"name": name},
        )
        return await cursor.fetchone()


async def user_named(unit: Unit, tenant: UUID, username: str) -> Whereabouts | None:
    async with unit.cursor(row_factory=class_row(Whereabouts)) as cursor:
        await cursor.execute(
            "select tenant_id, id as user_id from users where tenant_id = %s and username = %s", (tenant, username)
        )
        return await cursor.fetchone()


async def owner_of_device(unit: Unit, device: UUID) -> Whereabouts | None:
    async with unit.cursor(row_factory=class_row(Whereabouts)) as cursor:
        await cursor.execute("select tenant_id, user_id from devices where id = %s", (device,))
        return await cursor.fetchone()


async def owner_of_bucket(unit: Unit, bucket: UUID) -> Whereabouts | None:
    """Also of a vault that was removed from its profile."""
    async with unit.cursor(row_factory=class_row(Whereabouts)) as cursor:
        await cursor.execute("select tenant_id, user_id from vaults where bucket_id = %s", (bucket,))
        return await cursor.fetchone()


async def names_of_buckets(unit: Unit, buckets: Sequence[UUID]) -> list[VaultNames]:
    """Of the buckets that are vaults, removed ones too."""
    async with unit.cursor(row_factory=class_row(VaultNames)) as cursor:
        await cursor.execute(
            "select v.bucket_id, v.name as vault, u.username, t.name as tenant, v.removed is not null as removed"
            " from vaults v join users u on u.id = v.user_id join tenants t on t.id = v.tenant_id"
            " where v.bucket_id = any(%s)",
            (list(buckets),),
        )
        return await cursor.fetchall()


async def page_of_tenants(unit: Unit, after: str, limit: int) -> list[Tenant]:
    """The installation's tenants after a name, by name."""
    async with unit.cursor(row_factory=class_row(Tenant)) as cursor:
        await cursor.execute(
            'select id, name, is_first, created from tenants where name collate "C" > %s'
            ' order by name collate "C" limit %s',
            (after, limit),
        )
        return await cursor.fetchall()
