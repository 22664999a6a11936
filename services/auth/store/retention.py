from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from domain.jobs import JobKind, JobStatus
from services.auth.store.vaults import Vault
from services.common.database import Unit

_PASSED = (int(JobStatus.SUCCESS), int(JobStatus.WARNING))


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """`policy` is a document of domain/retention_policy.py; without an item it is the vault's default."""

    vault_id: UUID
    item_id: UUID | None
    policy: dict[str, Any]


async def put(unit: Unit, vault: Vault, item: UUID | None, policy: dict[str, Any]) -> None:
    await unit.execute(
        "insert into retention_policies (vault_id, item_id, tenant_id, user_id, policy) values (%s, %s, %s, %s, %s)"
        " on conflict (vault_id, item_id) do update set policy = excluded.policy",
        (vault.id, item, vault.tenant_id, vault.user_id, Jsonb(policy)),
    )


async def delete(unit: Unit, vault: UUID, item: UUID | None) -> None:
    await unit.execute(
        "delete from retention_policies where vault_id = %s and item_id is not distinct from %s", (vault, item)
    )


async def of_vaults(unit: Unit, vaults: Sequence[UUID]) -> list[StoredPolicy]:
    async with unit.cursor(row_factory=class_row(StoredPolicy)) as cursor:
        await cursor.execute(
            "select vault_id, item_id, policy from retention_policies where vault_id = any(%s) order by item_id",
            (list(vaults),),
        )
        return await cursor.fetchall()


async def last_passes(unit: Unit, vaults: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the last pass over the whole of each vault ended.

    One that removed snapshots and freed nothing is none, also where all had to stay that was to go, nor is one that
    failed: their work is still to be done.
    """
    cursor = await unit.execute(
        "select vault_id, max(ended) from jobs"
        " where vault_id = any(%s) and kind = %s and item_id is null and prune and status = any(%s) group by vault_id",
        (list(vaults), int(JobKind.RETENTION), list(_PASSED)),
    )
    return dict(await cursor.fetchall())
