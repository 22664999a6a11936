"""Protected items: what a device backs up, sealed under its user's key."""

from dataclasses import dataclass, replace
from uuid import UUID

from services.auth.directory import NOWHERE
from services.auth.errors import IdTaken, StaleVersion
from services.auth.gate import Caller
from services.auth.pages import cut
from services.auth.store import items
from services.auth.store.items import Item
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import NotAllowed, NotFound
from services.common.messages import uuid_of
from services.common.paging import Page


@dataclass(frozen=True, slots=True)
class Items:
    db: Database
    clock: Clock

    async def page(self, caller: Caller, page: Page, *, all_devices: bool) -> tuple[list[Item], str]:
        """The items of the caller's device, or of all the user's; a session without a device sees all."""
        after = uuid_of(page.after[0], "page_token") if page.after else NOWHERE
        async with self.db.unit(caller.tenant, caller.user) as unit:
            rows = await items.page(unit, caller.user, None if all_devices else caller.device, after, page.limit)
        return cut(page, rows, lambda row: [str(row.id)], lambda row: len(row.sealed))

    async def put(self, caller: Caller, item: UUID, engine: str, sealed: bytes, version: int) -> Item:
        """Create (version 0) or replace an item of the caller's device; a repeated call is the same call.

        Raises StaleVersion when the stored version is not `version`, IdTaken, NotFound, NotAllowed.
        """
        wanted = Item(
            id=item,
            tenant_id=caller.tenant,
            user_id=caller.user,
            device_id=caller.own_device,
            engine=engine,
            sealed=sealed,
            version=version + 1,
            modified=self.clock.now(),
        )
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if version == 0 and await items.insert(unit, wanted):
                return wanted
            known = await items.get(unit, item)
            if known is None:
                raise IdTaken(what="item", id=item) if version == 0 else NotFound(what="such item")
            if known.device_id != caller.device:
                raise NotAllowed(detail="The item belongs to another device.")
            if replace(known, modified=wanted.modified) == wanted:
                return known
            if version == 0 or not await items.replace(unit, wanted, former=version):
                raise StaleVersion
        return wanted

    async def delete(self, caller: Caller, item: UUID) -> None:
        """Remove an item of any of the user's devices; one that is gone is gone.

        Raises AppendOnly for one of another device than the caller's, if that may only add.
        """
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await items.get(unit, item)
            if known and known.device_id != caller.device:
                caller.require_full()
            await items.delete(unit, item)
