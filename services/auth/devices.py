"""A user's devices.

Kept true: a device that may only add changes itself alone, and never so that it may do more.
"""

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
        """Raises NotFound, AppendOnly."""
        _require_right(caller, device)
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await devices.rename(unit, device, name):
                raise NotFound(what="such device")

    async def revoke(self, caller: Caller, device: UUID) -> None:
        """End a device for good: its next call is refused, and its items go. Raises NotFound, AppendOnly."""
        _require_right(caller, device)
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await devices.revoke(unit, device, self.clock.now()):
                raise NotFound(what="such device")
            await items.delete_of_device(unit, device)

    async def set_append_only(self, caller: Caller, device: UUID, *, append_only: bool) -> None:
        """Have a device only add, or let it do all again. Raises NotFound, AppendOnly.

        No password is asked for to let it: a device that may do all can do itself whatever the other one then can.
        """
        _require_right(caller, device)
        if not append_only:
            caller.require_full()
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await devices.set_append_only(unit, device, append_only=append_only):
                raise NotFound(what="such device")


def _require_right(caller: Caller, device: UUID) -> None:
    """Raises AppendOnly for another device than the caller's own."""
    if device != caller.device:
        caller.require_full()
