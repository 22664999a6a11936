"""Users and tenants, as administrators and the operator handle them.

Kept true: what an administrator names in a call is looked for in the administrator's own tenant, and only there;
the first tenant's administrators may add to other tenants but read nothing of them.
"""

from dataclasses import dataclass
from uuid import UUID

from services.auth.credentials import Credentials, Prover
from services.auth.directory import Directory
from services.auth.errors import AdminExists, IdTaken, NameTaken
from services.auth.gate import Caller
from services.auth.store import credentials, tenants, users
from services.auth.store.tenants import Tenant
from services.auth.store.users import Role, User
from services.common.clock import Clock
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.common.paging import Page


@dataclass(frozen=True, slots=True)
class NewUser:
    id: UUID
    username: str
    role: Role
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Users:
    db: Database
    clock: Clock
    directory: Directory
    prover: Prover

    async def add(self, caller: Caller, new: NewUser, tenant: UUID | None) -> User:
        """Add a user to the caller's tenant, or from the first tenant to another; a repeated call is the same call.

        Raises NameTaken, IdTaken, NotAllowed, NotFound.
        """
        if tenant is not None and tenant != caller.tenant:
            await self.require_first(caller)
        async with self.db.unit(tenant or caller.tenant) as unit:
            found = await tenants.get(unit, tenant or caller.tenant)
            if found is None:
                raise NotFound(what="such tenant")
            return await self._insert(unit, found.id, new)

    async def page(self, caller: Caller, page: Page) -> tuple[list[User], str]:
        async with self.db.unit(caller.tenant) as unit:
            rows = await users.page(unit, page.after[0] if page.after else "", page.limit)
        return page.cut(rows, lambda row: [row.username])

    async def suspend(self, caller: Caller, user: UUID, *, suspended: bool) -> None:
        """Keep a user out, or let it in again, from its next call on. Raises NotFound."""
        if user == caller.user and suspended:
            raise InvalidArgument(detail="You cannot suspend yourself: another administrator may.")
        async with self.db.unit(caller.tenant) as unit:
            if not await users.set_suspended(unit, user, suspended=suspended):
                raise NotFound(what="such user")

    async def add_tenant(self, caller: Caller, tenant: UUID, name: str, admin: NewUser) -> Tenant:
        """A tenant with its administrator, both or neither; a repeated call is the same call.

        Raises NotAllowed, NameTaken, IdTaken.
        """
        await self.require_first(caller)
        wanted = Tenant(tenant, name, is_first=False, created=self.clock.now())
        async with self.db.unit(tenant) as unit:
            if not await tenants.insert(unit, wanted):
                known = await tenants.get(unit, tenant)
                if known is None:
                    # Either key may have been hit by a row out of sight; ids are random, so it was the name.
                    raise NameTaken(name=name)
                if known.name != name:
                    raise IdTaken(what="tenant", id=tenant)
                wanted = known
            await self._insert(unit, tenant, admin)
        return wanted

    async def tenants(self, caller: Caller, page: Page) -> tuple[list[Tenant], str]:
        """All tenants of the installation, for the first one's administrators. Raises NotAllowed."""
        await self.require_first(caller)
        rows = await self.directory.tenants(page.after[0] if page.after else "", page.limit)
        return page.cut(rows, lambda row: [row.name])

    async def add_first_admin(self, tenant: UUID, name: str, admin: NewUser) -> None:
        """The installation's first tenant and administrator; a repeated call is the same call. Raises AdminExists."""
        wanted = Tenant(tenant, name, is_first=True, created=self.clock.now())
        async with self.db.unit(tenant) as unit:
            if not await tenants.insert(unit, wanted):
                known = await tenants.get(unit, tenant)
                if known is None or (known.name, known.is_first) != (name, True):
                    raise AdminExists
                user, stored = await users.get(unit, admin.id), await credentials.get(unit, admin.id)
                if user is None or stored is None or not self._same(user, stored, admin):
                    raise AdminExists
                return
            await self._insert(unit, tenant, admin)

    async def require_first(self, caller: Caller) -> None:
        """Raises NotAllowed unless the caller's tenant is the installation's first."""
        async with self.db.unit(caller.tenant) as unit:
            tenant = await tenants.get(unit, caller.tenant)
        if tenant is None or not tenant.is_first:
            raise NotAllowed(detail="Only an administrator of the installation may do this.")

    async def _insert(self, unit: Unit, tenant: UUID, new: NewUser) -> User:
        now = self.clock.now()
        user = User(new.id, tenant, new.username, new.role, suspended=False, created=now)
        if await users.insert(unit, user):
            await credentials.insert(unit, self.prover.stored(user.id, tenant, new.credentials, now))
            return user
        known, stored = await users.get(unit, new.id), await credentials.get(unit, new.id)
        if known is None and await users.name_is_taken(unit, tenant, new.username):
            raise NameTaken(name=new.username)
        if known is None or stored is None or not self._same(known, stored, new):
            raise IdTaken(what="user", id=new.id)
        return known

    def _same(self, known: User, stored: credentials.StoredCredentials, new: NewUser) -> bool:
        same_row = (known.username, known.role) == (new.username, new.role)
        return same_row and self.prover.keeps(stored, new.credentials)
