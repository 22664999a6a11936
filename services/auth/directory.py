"""The one place where auth reads across tenants: whom a name, a device or a bucket belongs to, and lists of tenants.

Kept true: it answers ids and tenants' names, never a key or a seal; whatever follows is read in a unit of the tenant
and the user found here. A test shows that no other module of the role uses the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.auth.store import sign_in, vaults
from services.auth.store.sign_in import VaultNames, Whereabouts
from services.auth.store.tenants import Tenant
from services.auth.store.vaults import Owner
from services.common.database import Database
from services.common.errors import NotFound

# Of no tenant and no user: what is read in its scope is nothing.
NOWHERE = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Account:
    """An account that somebody named, whether it exists or not.

    `key` is the same each time the same account is named; the ids are NOWHERE if there is none.
    """

    key: str
    tenant_id: UUID
    user_id: UUID


def account_key(tenant: UUID | str, username: str) -> str:
    """The tenant by its id, or by its name if it has none."""
    return f"{tenant}\0{username}"


class Directory:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def account(self, tenant: str, username: str) -> Account:
        """Where a user's rows lie; the empty tenant is the first one. Unknown names cost the same queries."""
        async with self._db.worker() as unit:
            found = await sign_in.tenant_named(unit, tenant)
            user = await sign_in.user_named(unit, found.id if found else NOWHERE, username)
        key = account_key(found.id if found else tenant, username)
        return Account(key, user.tenant_id, user.user_id) if user else Account(key, NOWHERE, NOWHERE)

    async def device(self, device: UUID) -> Whereabouts | None:
        async with self._db.worker() as unit:
            return await sign_in.owner_of_device(unit, device)

    async def owner_of_bucket(self, bucket: UUID) -> Whereabouts | None:
        """Whose vault it is, on whatever storage cluster."""
        async with self._db.worker() as unit:
            return await sign_in.owner_of_bucket(unit, bucket)

    async def names_of_buckets(self, buckets: Sequence[UUID]) -> list[VaultNames]:
        """What people call those of the buckets that are vaults, and whose they are."""
        async with self._db.worker() as unit:
            return await sign_in.names_of_buckets(unit, buckets)

    async def owners(self, cluster: str, buckets: Sequence[UUID]) -> list[Owner]:
        """Whose those of the buckets are that are vaults on a storage cluster."""
        async with self._db.worker() as unit:
            return await vaults.owners(unit, cluster, buckets)

    async def first_tenant(self) -> Tenant:
        """Raises NotFound before set-up."""
        async with self._db.worker() as unit:
            found = await sign_in.tenant_named(unit, "")
        if found is None:
            raise NotFound(what="first administrator yet: add it first")
        return found

    async def tenants(self, after: str, limit: int) -> list[Tenant]:
        async with self._db.worker() as unit:
            return await sign_in.page_of_tenants(unit, after, limit)
