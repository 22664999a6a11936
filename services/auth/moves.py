"""Vaults whose buckets are written to on another cluster from now on.

Kept true: the devices of a vault are sent to a cluster that is set up, each by its next token.
"""

from dataclasses import dataclass
from uuid import UUID

from services.auth.directory import Directory
from services.auth.store import clusters, vaults
from services.common.database import Database
from services.common.errors import InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Moves:
    db: Database
    directory: Directory

    async def move(self, bucket: UUID, cluster: str, *, check: bool = False) -> None:
        """Send a vault to another cluster; the same again changes nothing. Raises NotFound, InvalidArgument.

        With `check` it is only asked whether that may be.
        """
        async with self.db.unit() as unit:
            known = await clusters.names(unit)
        if cluster not in known:
            raise InvalidArgument(
                detail=f"No storage cluster {cluster} is set up (`oort cluster add`); there are: {', '.join(known)}."
            )
        for before in known:
            for owner in await self.directory.owners(before, [bucket]):
                if check:
                    return
                async with self.db.unit(owner.tenant_id, owner.user_id) as unit:
                    await vaults.set_cluster(unit, bucket, before, cluster)
                return
        raise NotFound(what=f"vault with the bucket {bucket}")
