"""Quotas of vaults, as an operator changes them after the vault was made from its template."""

from dataclasses import dataclass
from uuid import UUID

from services.auth.directory import Directory
from services.auth.store import vaults
from services.common.database import Database
from services.common.errors import NotFound


@dataclass(frozen=True, slots=True)
class Quotas:
    db: Database
    directory: Directory

    async def put(self, bucket: UUID, limit: int) -> None:
        """Set what a vault's next tokens, and a rescan, say of its quota in bytes; 0: none. Raises NotFound."""
        owner = await self.directory.owner_of_bucket(bucket)
        if owner is None:
            raise NotFound(what=f"vault with the bucket {bucket}")
        async with self.db.unit(owner.tenant_id, owner.user_id) as unit:
            await vaults.set_quota(unit, bucket, limit)
