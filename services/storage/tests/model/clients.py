"""The model's clients that write and read: backups (also adoptions) and restores.

Each is a machine whose fields are values, so a copy of it is another future of the same client. `moves` are what it can
do next; each move is one call or a few that nothing of another client can come between to any effect. A client keeps
the rules that are a client's (5 per blob, 7, 9, 12), unless the world's `faults` say otherwise.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.errors import NotFound
from services.storage.errors import BeingRemoved, IndexNeeded, NotReserved, ParentGone, SessionOver
from services.storage.sessions import lifecycle
from services.storage.tests.model.contents import Made, a_pack, a_snapshot, an_index, blobs_of, packs_of
from services.storage.tests.model.invariants import Lost, Promise
from services.storage.tests.model.world import InFlight, World

Blobs = frozenset[str]
NOTHING: Blobs = frozenset()


class Move(NamedTuple):
    """One step; `interrupts` if it ends what the client is doing."""

    label: str
    act: Callable[[], Awaitable[object]]
    interrupts: bool = False


@dataclass
class Client:
    """What all clients have: a device, the node it talks to, a session."""

    name: str
    world: World
    claims: VaultClaims
    node: str = "a"
    session: UUID | None = None
    done: bool = False
    interrupted: int = 0
    drawn: int | None = None
    looked: tuple[str, tuple[Any, ...]] | None = None

    def moves(self) -> list[Move]:
        raise NotImplementedError

    def lose(self) -> None:
        """The session is over."""
        self.session = None

    async def run(self, move: Move) -> None:
        """Make a move; a session that turns out to be over is lost, and what is just being removed is tried again."""
        ahead = self.world.ahead
        ahead.early, self.drawn = self.drawn, None
        self.interrupted += move.interrupts
        ahead.told, self.looked = list(self.looked[1]) if self.looked else [], None
        try:
            await move.act()
        except SessionOver:
            self.lose()
        except BeingRemoved:
            pass
        finally:
            ahead.early, ahead.told = None, []

    async def draw(self) -> None:
        """Draw the number of what it does next, as from a SEQUENCE."""
        self.drawn = self.world.ahead.number()

    @property
    def promise(self) -> Promise | None:
        return None

    @property
    def open_session(self) -> UUID:
        assert self.session is not None
        return self.session

    async def end(self) -> None:
        await lifecycle.end(self.world.db, self.claims, self.open_session)
        self.lose()

    @property
    def _ending(self) -> list[Move]:
        """What is left to do when all is done."""
        return [Move("ends", self.end)] if self.session else []

    async def vanish(self) -> None:
        """The client dies; the node hears nothing of it."""
        self.lose()

    async def index(self) -> dict[ObjectName, dict[ObjectName, Blobs]]:
        """List and read all index files in the session."""
        listed = await self.world.names(self.claims, self.open_session, ObjectKind.INDEX)
        return {name: packs_of(await self.read(name)) for name in listed}

    async def read(self, name: ObjectName) -> bytes:
        return await self.world.read(self.claims, self.open_session, name, self.node)


@dataclass
class Backup(Client):
    """Backs up the blobs it `wants`, or adopts them. What it has of an ended session is put again."""

    wants: Blobs = NOTHING
    purpose: Purpose = Purpose.BACKUP
    parents: tuple[ObjectName | None, ...] = (None,)
    serial: int = 0
    fine: bool = True  # puts of index files and snapshots in two moves, as those of packs
    stale: bool = True  # uses packs that any index file ever named, not only what it made
    parent: ObjectName | None = None
    covered: Blobs = NOTHING
    packs: tuple[ObjectName, ...] = ()
    gone: tuple[ObjectName, ...] = ()
    indexed: frozenset[ObjectName] = frozenset()
    spool: tuple[ObjectName, ...] = ()
    old_index: ObjectName | None = None
    flight: InFlight | None = None

    def lose(self) -> None:
        self.session = self.flight = self.parent = None
        self.spool = tuple(pack for pack in self.packs if self._salt in self.world.made[pack].body.decode())
        self.packs, self.gone, self.indexed = (), (), frozenset()
        if "parent carries over" not in self.world.faults:
            self.covered = NOTHING

    @property
    def _salt(self) -> str:
        return f'"{self.name}"'

    @property
    def _lacks(self) -> Blobs:
        held = frozenset(blob for pack in self.packs for blob in self.world.made[pack].holds)
        return self.wants - self.covered - held

    def moves(self) -> list[Move]:
        if self.done:
            return self._ending
        if self.session is None:
            return [Move(f"opens with {short(parent)}", partial(self._open, parent)) for parent in self.parents]
        if self.flight is not None:
            return [
                Move("ends a put", self._finish),
                Move("ends a put, and its node dies", self._enter_and_die, interrupts=True),
                Move("vanishes in a put", self.vanish, interrupts=True),
            ]
        found = [*self._pack_moves(), *self._index_moves()]
        if not self._lacks and self.indexed >= set(self.packs):
            found.append(Move("commits", self._commit))
        elif "snapshot before index" in self.world.faults and not self._lacks:
            found.append(Move("commits without an index", self._commit))
        found.append(Move("ends", self.end, interrupts=True))
        return found

    def _pack_moves(self) -> list[Move]:
        lacks, found = self._lacks, []
        if lacks:
            found.append(Move(f"puts {sorted(lacks)}", lambda: self._begin(a_pack(lacks, self.name))))
            if self.fine and len(lacks) > 1:
                first = frozenset((min(lacks),))
                found.append(Move(f"puts {sorted(first)}", lambda: self._begin(a_pack(first, self.name))))
        useful = [pack for pack in self.world.known(ObjectKind.PACK) if pack.holds & lacks]
        for pack in useful if self.stale else ():
            if pack.name not in self.gone:
                found.append(Move(f"reserves {short(pack.name)}", partial(self._reserve, pack)))  # noqa: PERF401 - reads better
        for name in self.spool:
            if name not in self.packs:
                again = self.world.made[name]
                found.append(Move(f"puts {short(name)} again", partial(self._begin, again)))
        return found

    def _index_moves(self) -> list[Move]:
        found = []
        if set(self.packs) - self.indexed:
            found.append(Move("puts an index file", self._put_index))
        if self.old_index is not None and not self.world.made[self.old_index].lists <= set(self.packs):
            found.append(Move("puts its old index file", self._put_old_index))
        return found

    async def _open(self, parent: ObjectName | None) -> None:
        try:
            self.session = await self.world.open(self.claims, self.purpose, parent)
        except ParentGone:
            self.parents = tuple(other for other in self.parents if other != parent) or (None,)
            return
        self.parent = parent
        if parent is not None:
            self.covered = blobs_of(await self.read(parent)) & self.wants
            if "per blob" in self.world.faults:
                near = [pack.holds for pack in self.world.known(ObjectKind.PACK) if pack.holds & self.covered]
                self.covered |= self.wants & frozenset().union(*near)

    async def _reserve(self, pack: Made) -> None:
        gone = await lifecycle.reserve(self.world.db, self.claims, self.open_session, [pack.name])
        if gone:
            self.gone += (pack.name,)
        else:
            self.packs += (pack.name,)

    async def _begin(self, made: Made, *, at_once: bool = False) -> None:
        lists = sorted(made.lists)
        flight = await self.world.begin_put(self.claims, self.open_session, made, node=self.node, packs=lists)
        if flight is None:
            self._stored(made)
            return
        self.flight = flight
        if at_once:
            await self._finish()

    async def _finish(self) -> None:
        assert self.flight is not None
        flight, self.flight = self.flight, None
        await self.world.finish_put(flight)
        self._stored(self.world.made[flight.put.name])

    async def _enter_and_die(self) -> None:
        assert self.flight is not None
        flight, self.flight = self.flight, None
        await self.world.enter_and_die(flight)
        self._stored(self.world.made[flight.put.name])

    def _stored(self, made: Made) -> None:
        if made.name.kind is ObjectKind.PACK:
            self.packs += (made.name,)
        elif made.name.kind is ObjectKind.INDEX:
            self.indexed, self.old_index = made.lists, made.name
        else:
            self.done = True

    async def _put_index(self) -> None:
        await self._begin(an_index({pack: self.world.made[pack].holds for pack in self.packs}), at_once=not self.fine)

    async def _put_old_index(self) -> None:
        """A client that resumes and has not reserved again what its old index file lists: the node must refuse it."""
        assert self.old_index is not None
        old, self.old_index = self.world.made[self.old_index], None
        try:
            await self.world.put(self.claims, self.open_session, old, node=self.node, packs=sorted(old.lists))
        except NotReserved:
            pass
        else:
            self.indexed |= old.lists & set(self.packs)

    async def _commit(self) -> None:
        try:
            await self._begin(a_snapshot(self.wants, f"{self.name} {self.serial}"), at_once=not self.fine)
        except IndexNeeded:
            if "snapshot before index" not in self.world.faults:
                raise


@dataclass
class Restore(Client):
    """Reads a snapshot that was there when its session was opened: pages of the index list, index files, packs."""

    page_size: int = 1
    snapshots: frozenset[ObjectName] = frozenset()
    wanted: ObjectName | None = None
    listed: tuple[ObjectName, ...] = ()
    is_listed: bool = False
    to_read: tuple[ObjectName, ...] = ()
    packs: tuple[ObjectName, ...] = ()
    lacks: Blobs = NOTHING

    @property
    def promise(self) -> Promise | None:
        return Promise(self.session, self.snapshots) if self.session else None

    def lose(self) -> None:
        self.session = self.wanted = None
        self.snapshots = frozenset()
        self.listed = self.to_read = self.packs = ()
        self.is_listed, self.lacks = False, NOTHING

    def moves(self) -> list[Move]:
        if self.done:
            return []
        if self.session is None:
            return [Move("opens", self._open)]
        ends = Move("ends", self.end, interrupts=True)
        if self.wanted is None:
            wanted = sorted(self.snapshots)
            return [*(Move(f"reads {short(one)}", partial(self._choose, one)) for one in wanted), ends]
        if not self.is_listed:
            return [Move("lists a page of the index", self._list), ends]
        if self.to_read:
            return [Move(f"reads {short(self.to_read[0])}", self._read_index), ends]
        return [Move("reads packs", self._read_packs), ends] if self.lacks else self._ending

    async def end(self) -> None:
        self.done = self.wanted is not None and self.is_listed and not self.lacks
        await super().end()

    async def _open(self) -> None:
        self.session = await self.world.open(self.claims, Purpose.READ)
        self.snapshots = frozenset(await self.world.names(self.claims, self.session, ObjectKind.SNAPSHOT))

    async def _choose(self, snapshot: ObjectName) -> None:
        self.lacks = blobs_of(await self._read(snapshot))
        self.wanted = snapshot

    async def _list(self) -> None:
        last = self.listed[-1] if self.listed else None
        page = await self.world.page(self.claims, self.open_session, ObjectKind.INDEX, last, self.page_size)
        self.listed += tuple(page)
        self.is_listed = not page
        if not page:
            self.to_read = self.listed

    async def _read_index(self) -> None:
        name, *rest = self.to_read
        packs = packs_of(await self._read(name))
        self.packs += tuple(pack for pack, blobs in packs.items() if blobs & self.lacks and pack not in self.packs)
        self.to_read = tuple(rest)

    async def _read_packs(self) -> None:
        for pack in self.packs:
            self.lacks -= blobs_of(await self._read(pack))
        if self.lacks:
            raise Lost(f"3: a restore found no {sorted(self.lacks)} of {self.wanted}")

    async def _read(self, name: ObjectName) -> bytes:
        try:
            return await self.read(name)
        except NotFound as error:
            raise Lost(f"3: a restore that was told of {name} finds it no more") from error


def short(name: ObjectName | None) -> str:
    return "nothing" if name is None else f"{name.kind.value}/{name.id[:6]}"
