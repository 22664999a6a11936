"""The model's adoption that brings a removed snapshot back."""

from dataclasses import dataclass
from functools import partial

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.storage import sessions
from services.storage.tests.model.clients import NOTHING, Blobs, Client, Move, short
from services.storage.tests.model.contents import an_index, blobs_of, packs_of


@dataclass
class Revival(Client):
    """Brings a snapshot back from the waste basket: first reserves all that it reaches, then puts it again (rule 8)."""

    snapshots: tuple[ObjectName, ...] = ()
    wanted: ObjectName | None = None
    lacks: Blobs = NOTHING
    offers: tuple[ObjectName, ...] = ()
    packs: tuple[ObjectName, ...] = ()
    is_indexed: bool = False

    def lose(self) -> None:
        self.session = self.wanted = None
        self.snapshots = self.offers = self.packs = ()
        self.lacks, self.is_indexed = NOTHING, False

    def moves(self) -> list[Move]:
        if self.done:
            return self._ending
        if self.session is None:
            return [Move("opens", self._open)]
        ends = Move("ends", self.end, interrupts=True)
        if self.wanted is None:
            return [*(Move(f"finds {short(one)}", partial(self._find, one)) for one in self.snapshots), ends]
        if self.lacks and "revives unreserved" not in self.world.faults:
            useful = [pack for pack in self.offers if self.world.made[pack].holds & self.lacks]
            return [*(Move(f"reserves {short(one)}", partial(self._reserve, one)) for one in useful), ends]
        if not self.is_indexed and self.packs:
            return [Move("puts an index file", self._put_index), ends]
        return [Move("commits again", self._commit), ends]

    async def _open(self) -> None:
        self.session = await self.world.open(self.claims, Purpose.ADOPT)
        self.snapshots = tuple(await self._condemned(ObjectKind.SNAPSHOT))

    async def _condemned(self, kind: ObjectKind) -> list[ObjectName]:
        listed = await sessions.list_condemned(
            self.world.db, self.claims, self.open_session, kind, after=None, limit=1000
        )
        return [ObjectName(kind, bytes(one.sha256).hex()) for one in listed]

    async def _find(self, snapshot: ObjectName) -> None:
        self.lacks = blobs_of(await self.read(snapshot))
        self.wanted = snapshot
        index = await self.index()
        for name in await self._condemned(ObjectKind.INDEX):
            index[name] = packs_of(await self.read(name))
        self.offers = tuple(sorted({pack for packs in index.values() for pack in packs}))

    async def _reserve(self, pack: ObjectName) -> None:
        self.offers = tuple(other for other in self.offers if other != pack)
        if not await sessions.reserve(self.world.db, self.claims, self.open_session, [pack]):
            self.packs += (pack,)
            self.lacks -= self.world.made[pack].holds

    async def _put_index(self) -> None:
        made = an_index({pack: self.world.made[pack].holds for pack in self.packs})
        await self.world.put(self.claims, self.open_session, made, node=self.node, packs=self.packs)
        self.is_indexed = True

    async def _commit(self) -> None:
        assert self.wanted is not None
        await self.world.put(self.claims, self.open_session, self.world.made[self.wanted], node=self.node)
        self.done = True
