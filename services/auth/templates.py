"""Storage templates: what kind of bucket a user may ask for, and in which cluster."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from services.auth.errors import IdTaken, NameTaken
from services.auth.gate import Caller
from services.auth.store import clusters, templates, tenants
from services.auth.store.templates import Template
from services.auth.users import Users
from services.common.database import Database
from services.common.errors import InvalidArgument, NotFound
from services.common.paging import Page


@dataclass(frozen=True, slots=True)
class Templates:
    db: Database
    users: Users

    async def page(self, caller: Caller, page: Page) -> tuple[list[Template], str]:
        """The templates that the caller's tenant has."""
        async with self.db.unit(caller.tenant) as unit:
            rows = await templates.page(unit, page.after[0] if page.after else "", page.limit)
        return page.cut(rows, lambda row: [row.name])

    async def put_as(
        self, caller: Caller, make: Callable[[UUID], Template], tenant: UUID | None, *, create_only: bool
    ) -> Template:
        """As `put`, for administrators of the installation. Raises NotAllowed."""
        await self.users.require_first(caller)
        return await self.put(make(tenant or caller.tenant), create_only=create_only)

    async def put_first(self, make: Callable[[UUID], Template], tenant: UUID | None, *, create_only: bool) -> Template:
        """As `put`, in the first tenant unless another is named."""
        first = tenant or (await self.users.directory.first_tenant()).id
        return await self.put(make(first), create_only=create_only)

    async def put(self, template: Template, *, create_only: bool) -> Template:
        """Create or replace by name; no cluster means the only one. Raises NotFound, InvalidArgument.

        With `create_only` none is replaced: raises NameTaken, IdTaken. The same again is the same call.
        """
        async with self.db.unit(template.tenant_id) as unit:
            if await tenants.get(unit, template.tenant_id) is None:
                raise NotFound(what="such tenant")
            known = await clusters.names(unit)
            cluster = template.cluster or (known[0] if len(known) == 1 else "")
            if cluster not in known:
                listed = ", ".join(known) or "none"
                raise InvalidArgument(detail=f"template.cluster names no storage cluster; there are: {listed}.")
            wanted = replace(template, cluster=cluster)
            if not create_only:
                return await templates.put(unit, wanted)
            if not await templates.insert(unit, wanted):
                present = await templates.find(unit, wanted.name)
                if present is None:
                    raise IdTaken(what="template", id=wanted.id)
                if present != wanted:
                    raise NameTaken(name=wanted.name)
            return wanted

    async def put_cluster(self, name: str, internal_endpoints: list[str]) -> None:
        """Create or replace a storage cluster, by name."""
        async with self.db.unit() as unit:
            await clusters.put(unit, name, internal_endpoints)
