from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit

_COLUMNS = (
    "id, tenant_id, user_id, name, kind, bucket_id, cluster, template, sealed_place, sealed_key, quota_bytes,"
    " created, removed"
)


class VaultKind(StrEnum):
    BUCKET = "bucket"  # on the storage role
    LOCAL = "local"  # a folder on the device


@dataclass(frozen=True, slots=True)
class Vault:
    id: UUID
    tenant_id: UUID
    user_id: UUID
    name: str
    kind: str  # of VaultKind
    bucket_id: UUID | None
    cluster: str | None
    template: str | None
    sealed_place: bytes
    sealed_key: bytes  # E sealed under K; empty before first use
    quota_bytes: int  # 0: no limit
    created: datetime
    removed: datetime | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a bucket is, and what it was made with."""

    bucket_id: UUID
    tenant_id: UUID
    user_id: UUID
    copies: int
    ack_copies: int
    quota_bytes: int


_OWNERS = """
select v.bucket_id, v.tenant_id, v.user_id, coalesce(t.copies, 1)::int as copies,
       coalesce(t.ack_copies, 1)::int as ack_copies, v.quota_bytes
from vaults v left join templates t on t.tenant_id = v.tenant_id and t.name = v.template
where v.cluster = %s and v.bucket_id = any(%s)
"""


async def insert(unit: Unit, vault: Vault) -> bool:
    """False when the id is taken, by whomever, or the name by another vault of the user."""
    cursor = await unit.execute(
        f"insert into vaults ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - constant
        " on conflict do nothing",
        (
            vault.id,
            vault.tenant_id,
            vault.user_id,
            vault.name,
            vault.kind,
            vault.bucket_id,
            vault.cluster,
            vault.template,
            vault.sealed_place,
            vault.sealed_key,
            vault.quota_bytes,
            vault.created,
            vault.removed,
        ),
    )
    return cursor.rowcount == 1


async def get(unit: Unit, vault: UUID) -> Vault | None:
    """A vault by its id, also one that was removed."""
    async with unit.cursor(row_factory=class_row(Vault)) as cursor:
        await cursor.execute(f"select {_COLUMNS} from vaults where id = %s", (vault,))  # noqa: S608 - constant
        return await cursor.fetchone()


async def name_is_taken(unit: Unit, user: UUID, name: str, by_other_than: UUID) -> bool:
    """Whether another vault of the user has the name."""
    cursor = await unit.execute(
        "select 1 from vaults where user_id = %s and name = %s and id <> %s and removed is null",
        (user, name, by_other_than),
    )
    return await cursor.fetchone() is not None


async def page(unit: Unit, user: UUID, after: str, limit: int) -> list[Vault]:
    """The user's vaults after a name, by name."""
    async with unit.cursor(row_factory=class_row(Vault)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from vaults where user_id = %s and removed is null"  # noqa: S608 - constant
            ' and name collate "C" > %s order by name collate "C" limit %s',
            (user, after, limit),
        )
        return await cursor.fetchall()


async def clusters(unit: Unit) -> list[str]:
    """The storage clusters on which vaults of the unit's scope lie or lay, by name."""
    cursor = await unit.execute("select distinct cluster from vaults where cluster is not null order by cluster")
    return [row[0] for row in await cursor.fetchall()]


async def owners(unit: Unit, cluster: str, buckets: Sequence[UUID]) -> list[Owner]:
    """Of the buckets that are vaults on the cluster, removed ones too. As a worker: they are of any tenant."""
    async with unit.cursor(row_factory=class_row(Owner)) as cursor:
        await cursor.execute(_OWNERS, (cluster, list(buckets)))
        return await cursor.fetchall()


async def set_key(unit: Unit, vault: UUID, sealed_key: bytes, replaces: bytes) -> bool:
    """Store the key of a vault in place of the one that it replaces, empty for none. False if the vault has another."""
    cursor = await unit.execute(
        "update vaults set sealed_key = %s where id = %s and removed is null and sealed_key = %s",
        (sealed_key, vault, replaces),
    )
    return cursor.rowcount == 1


async def set_place(unit: Unit, vault: UUID, sealed_place: bytes, replaces: bytes) -> bool:
    """Store where a vault lies in place of what it replaces. False if the vault has another."""
    cursor = await unit.execute(
        "update vaults set sealed_place = %s where id = %s and removed is null and sealed_place = %s",
        (sealed_place, vault, replaces),
    )
    return cursor.rowcount == 1


async def set_cluster(unit: Unit, bucket: UUID, before: str, cluster: str) -> bool:
    """Say that a vault's bucket is written to on another cluster than `before`. False if it was not there."""
    cursor = await unit.execute(
        "update vaults set cluster = %s where bucket_id = %s and cluster = %s", (cluster, bucket, before)
    )
    return cursor.rowcount == 1


async def set_quota(unit: Unit, bucket: UUID, limit: int) -> None:
    await unit.execute("update vaults set quota_bytes = %s where bucket_id = %s", (limit, bucket))


async def remove(unit: Unit, vault: UUID, now: datetime) -> bool:
    """False when there is no such vault; one removed before stays as it is."""
    cursor = await unit.execute("update vaults set removed = coalesce(removed, %s) where id = %s", (now, vault))
    return cursor.rowcount == 1
