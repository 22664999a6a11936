"""A user's devices."""

from dataclasses import dataclass
from uuid import UUID

from services.auth.directory import NOWHERE
from services.auth.gate import Caller
from services.auth.store import devices, items
from services.auth.store.devices import Device
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import NotFound
from services.common.messages import uuid_of
from services.common.paging import Page


@dataclass(frozen=True, slots=True)
class Devices:
    db: Database
    clock: Clock

    async def page(self, caller: Caller, page: Page) -> tuple[list[Device], str]:
        """The caller's devices in force, and the token of the next page."""
        after = uuid_of(page.after[0], "page_token") if page.after else NOWHERE
        async with self.db.unit(caller.tenant, caller.user) as unit:
            rows = await devices.page(unit, caller.user, after, page.limit)
        return page.cut(rows, lambda row: [str(row.id)])

    async def rename(self, caller: Caller, device: UUID, name: str) -> None:
        """Raises NotFound."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await devices.rename(unit, device, name):
                raise NotFound(what="such device")

    async def revoke(self, caller: Caller, device: UUID) -> None:
        """End a device for good: its next call is refused, and its items go. Raises NotFound."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await devices.revoke(unit, device, self.clock.now()):
                raise NotFound(what="such device")
            await items.delete_of_device(unit, device)
