"""The model's adoption that brings a removed snapshot back, and its operator who brings back what the basket holds."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.storage.errors import RemovalRunning
from services.storage.removal import basket
from services.storage.sessions import control, lifecycle
from services.storage.store.protection import Candidate, Protected
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
        listed = await lifecycle.list_condemned(
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
        if not await lifecycle.reserve(self.world.db, self.claims, self.open_session, [pack]):
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


class Baskets(basket.Baskets):
    """Those of a node, without the reading of bodies, which here are as they were made."""

    async def _is_whole(self, bucket: Protected, candidate: Candidate) -> bool:
        del bucket, candidate
        return True


@dataclass
class Restoration(Client):
    """An operator's restore of all that lies in the basket: looks, and brings back what it saw, until there is none."""

    batch: tuple[Candidate, ...] | None = None

    def lose(self) -> None:
        self.session = self.batch = None

    def moves(self) -> list[Move]:
        if self.done:
            return []
        if self.session is None:
            return [Move("opens", self._open)]
        if self.batch is None:
            return [Move("looks", self._look), Move("is left", self._leave, interrupts=True)]
        return [Move("brings back", self._bring_back), Move("is left", self._leave, interrupts=True)]

    @property
    def _baskets(self) -> Baskets:
        return Baskets(self.world.db, None, "local")  # type: ignore[arg-type] # no body is read

    async def _open(self) -> None:
        session = self.world.session_id()
        with suppress(RemovalRunning):
            await self._baskets.open(self.claims.bucket, None, session)
            self.session = session

    async def _look(self) -> None:
        self.batch = await self._baskets.look(self.claims.bucket, basket.Wish(0))

    async def _bring_back(self) -> None:
        batch, self.batch = self.batch, None
        found = await self._baskets.open(self.claims.bucket, None, self.open_session)
        with suppress(RemovalRunning):
            step = await self._baskets.bring_back(found, self.open_session, basket.Wish(0), batch or ())
            self.done = step.done

    async def _leave(self) -> None:
        await control.end(self.world.db, self.open_session, None)
        self.lose()
