"""What was removed from a bucket on another cluster is removed from the one that follows it.

Kept true: it goes as a retention removes, in its order; object lock, brake and waste basket of this cluster hold it;
while a snapshot or an index file is held nothing goes that it may need.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import uuid4

from domain.names import ObjectKind, ObjectName
from services.common.database import Database
from services.storage.errors import Held, SnapshotInUse
from services.storage.regions.passes import Pass
from services.storage.removal import retention
from services.storage.removal.holding import Brake
from services.storage.store import following

_PAGE = retention.CONDEMNED_AT_ONCE
_REMOVED = (ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY)


@dataclass(frozen=True, slots=True)
class Removals:
    db: Database
    brake: Brake

    async def follow(self, this: Pass) -> None:
        """Remove what the pass does not see there, in a session of retention; what stays here is counted as kept."""
        own = this.own
        await self._remove_snapshots(this)
        await retention.mark(self.db, own.claims, own.open_session, uuid4())
        for kind in _REMOVED:
            if this.kept and kind is not ObjectKind.KEY:
                # What is held here may need what would go: nobody can tell without the vault's key.
                continue
            async with aclosing(self._gone(this, kind)) as pages:
                async for names in pages:
                    this.kept += len(await retention.condemn(self.db, own.claims, own.open_session, names, self.brake))

    async def _remove_snapshots(self, this: Pass) -> None:
        async with aclosing(self._gone(this, ObjectKind.SNAPSHOT)) as pages:
            async for names in pages:
                for name in names:
                    try:
                        await retention.remove(self.db, this.own.claims, this.own.open_session, name, self.brake)
                    except (Held, SnapshotInUse):
                        this.kept += 1

    async def _gone(self, this: Pass, kind: ObjectKind) -> AsyncGenerator[list[ObjectName], None]:
        """What is live here, and not to be seen there, in pages."""
        after = b""
        while True:
            async with self.db.worker() as unit:
                page = await following.live_page(unit, this.one.bucket_id, kind, after, _PAGE)
            if not page:
                return
            after = page[-1]
            gone = await this.source.gone(kind, page)
            if gone:
                yield [ObjectName(kind, digest.hex()) for digest in gone]
