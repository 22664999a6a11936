"""The model's retention: removes snapshots, draws its mark, lists, condemns what needs nothing new, rewrites, condemns.

As client/retention/prune does it (rules 9, 10 and 12).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.common.errors import NotFound
from services.storage.errors import RetentionRunning, SnapshotInUse
from services.storage.removal import retention
from services.storage.tests.model.clients import NOTHING, Blobs, Client, Move, short
from services.storage.tests.model.contents import Made, a_pack, an_index, blobs_of
from services.storage.tests.model.invariants import Lost
from services.storage.tests.model.world import InFlight

Index = dict[ObjectName, dict[ObjectName, Blobs]]


@dataclass
class Retention(Client):
    """`removes` are the snapshots to go; None: any that it sees. `prefers_last`: which of two copies it keeps."""

    removes: tuple[ObjectName, ...] | None = ()
    prefers_last: bool = False
    wasteful: bool = False  # keeps packs of which only a part is needed
    fine: bool = True  # puts in two moves: up to the durable copies, and the entry
    removed: frozenset[ObjectName] = frozenset()
    is_marked: bool = False
    is_marked_again: bool = False
    needed: Blobs | None = None
    index_read: tuple[tuple[ObjectName, tuple[tuple[ObjectName, Blobs], ...]], ...] | None = None
    useless: tuple[ObjectName, ...] = ()  # index files of which no pack is needed
    idle: tuple[ObjectName, ...] = ()  # packs that no other index file lists
    early: frozenset[ObjectName] = frozenset()  # index files that were useless
    spared: frozenset[ObjectName] = frozenset()  # those of them that stay
    kept: tuple[ObjectName, ...] | None = None
    repacked: Made | None = None
    flight: InFlight | None = None
    new_index: Made | None = None
    is_written: bool = False
    refused: frozenset[ObjectName] | None = None
    doomed: tuple[ObjectName, ...] | None = None

    def lose(self) -> None:
        self.session = self.flight = None
        self.removed, self.is_marked, self.is_marked_again = frozenset(), False, False
        if "plan carries over" not in self.world.faults:
            self.needed = self.index_read = self.kept = self.repacked = self.new_index = None
            self.refused = self.doomed = None
            self.useless = self.idle = ()
            self.early = self.spared = frozenset()
            self.is_written = False

    def moves(self) -> list[Move]:
        if self.done:
            return []
        if self.session is None:
            return [Move("opens", self._open)]
        return [*self._works(), Move("ends", self.end, interrupts=True)]

    def _works(self) -> list[Move]:
        if not self.is_marked:
            return self._before_the_mark()
        faults = self.world.faults
        is_index_first = "packs before index" not in faults
        marks_again = "marks again" in faults and not self.is_marked_again
        is_written = self.is_written or ("condemns first" in faults and self.refused is None)
        steps = (
            (self.needed is None, Move("lists snapshots", self._list_snapshots)),
            (self.index_read is None, Move("reads the index", self._read_index)),
            (bool(self.useless), Move("condemns useless index files", self._condemn_useless)),
            (bool(self.idle), Move("condemns idle packs", self._condemn_idle)),
            (self.flight is not None, Move("ends a put", self._finish)),
            (not is_written, Move(f"puts the new {'pack' if self.repacked else 'index'}", self._write)),
            (marks_again, Move("draws its mark again", self._mark_again)),
            (
                self.refused is None and (is_index_first or self.doomed == ()),
                Move("condemns index files", self._condemn_index),
            ),
            (self.doomed is None, Move("lists packs", self._list_packs)),
            (True, Move("condemns packs", self._condemn_packs)),
        )
        return [next(move for is_next, move in steps if is_next)]

    def _before_the_mark(self) -> list[Move]:
        found = []
        for snapshot in self.world.known(ObjectKind.SNAPSHOT):
            name = snapshot.name
            if name not in self.removed and (self.removes is None or name in self.removes):
                found.append(Move(f"removes {short(name)}", partial(self._remove, name)))
        if "index before mark" in self.world.faults and self.index_read is None:
            return [*found, Move("reads the index", self._read_index)]
        if "snapshots before mark" in self.world.faults and self.needed is None:
            return [*found, Move("lists snapshots", self._list_snapshots)]
        return [*found, Move("draws its mark", self._mark)]

    async def _open(self) -> None:
        try:
            self.session = await self.world.open(self.claims, Purpose.RETENTION)
        except RetentionRunning:
            return

    async def _remove(self, snapshot: ObjectName) -> None:
        self.removed |= {snapshot}
        try:
            await retention.remove(self.world.db, self.claims, self.open_session, snapshot)
        except (NotFound, SnapshotInUse):
            return

    async def _mark(self) -> None:
        await retention.mark(self.world.db, self.claims, self.open_session, self.world.session_id())
        self.is_marked = True

    async def _mark_again(self) -> None:
        self.is_marked_again = True
        await self._mark()

    async def _list_snapshots(self) -> None:
        listed = await self.world.names(self.claims, self.open_session, ObjectKind.SNAPSHOT)
        self.needed = NOTHING.union(*[blobs_of(await self.read(name)) for name in listed])
        await self._plan()

    async def _read_index(self) -> None:
        self.index_read = tuple((name, tuple(packs.items())) for name, packs in (await self.index()).items())
        await self._plan()

    async def _plan(self) -> None:
        """One copy of each needed blob; packs that hold nothing else stay, of the others the rest is put anew.

        Made when snapshots and index have been read: nothing of another client can come in between to any effect.
        """
        if self.needed is None or self.index_read is None:
            return
        packs = {pack: blobs for _, listed in self.index_read for pack, blobs in listed}
        copies: dict[str, ObjectName] = {}
        for pack in sorted(packs, reverse=not self.prefers_last):
            copies.update(dict.fromkeys(packs[pack] & self.needed, pack))
        if lacking := self.needed - set(copies):
            raise Lost(f"1: a retention finds no {sorted(lacking)} in the index")
        taken = {pack: frozenset(blob for blob, own in copies.items() if own == pack) for pack in set(copies.values())}
        kept = {pack for pack, blobs in taken.items() if blobs == packs[pack] or self.wasteful}
        moved = frozenset(blob for blob, pack in copies.items() if pack not in kept)
        self.repacked = a_pack(moved, "r") if moved else None
        self.kept = tuple(sorted(kept))
        listed = {pack: packs[pack] for pack in kept}
        if self.repacked:
            listed[self.repacked.name] = moved
        self.new_index = an_index(listed)
        needs = any if "early index" in self.world.faults else all
        self.useless = tuple(name for name, lists in self.index_read if needs(pack not in taken for pack, _ in lists))
        stay = {pack for name, lists in self.index_read if name not in self.useless for pack, _ in lists}
        if "early packs" in self.world.faults:
            stay &= set(taken)
        live = await self.world.names(self.claims, self.open_session, ObjectKind.PACK)
        self.idle = tuple(pack for pack in live if pack not in stay and pack not in taken)

    async def _condemn_useless(self) -> None:
        """They go before anything is stored: nothing new takes their place, and it may be what makes room."""
        self.early = frozenset(self.useless)
        self.spared, self.useless = await self._condemn(self.useless), ()
        self.idle = tuple(pack for pack in self.idle if all(pack not in self.world.made[n].lists for n in self.spared))

    async def _condemn_idle(self) -> None:
        await retention.condemn(self.world.db, self.claims, self.open_session, self.idle)
        self.idle = ()

    async def _condemn(self, old: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """Condemn index files; answers those that stay."""
        held = frozenset(old[:1]) if self.world.locked else frozenset()
        asked = [name for name in old if name not in held]
        refusals = await retention.condemn(self.world.db, self.claims, self.open_session, asked)
        return held | {one.name for one in refusals}

    async def _write(self) -> None:
        """The new pack, if there is one, then the new index file; nothing if nothing is to be listed."""
        assert self.new_index is not None
        assert self.kept is not None
        made = self.repacked or self.new_index
        if not self.new_index.lists:
            self.is_written = True
            return
        flight = await self.world.begin_put(
            self.claims, self.open_session, made, node=self.node, packs=sorted(made.lists)
        )
        if flight is None:
            self._stored(made)
            return
        self.flight = flight
        if not self.fine:
            await self._finish()

    async def _finish(self) -> None:
        assert self.flight is not None
        flight, self.flight = self.flight, None
        await self.world.finish_put(flight)
        self._stored(self.world.made[flight.put.name])

    def _stored(self, made: Made) -> None:
        if made.name.kind is ObjectKind.PACK:
            assert self.kept is not None
            self.kept, self.repacked = (*self.kept, made.name), None
        else:
            self.is_written = True

    async def _condemn_index(self) -> None:
        assert self.index_read is not None
        assert self.new_index is not None
        old = [name for name, _ in self.index_read if name not in self.early | {self.new_index.name}]
        self.refused = self.spared | await self._condemn(old)
        if self.doomed is not None:
            await self.end()
            self.done = True

    async def _list_packs(self) -> None:
        assert self.kept is not None
        stays = set(self.kept)
        for name in self.refused or ():
            if "refused index" not in self.world.faults:
                stays |= self.world.made[name].lists
        live = await self.world.names(self.claims, self.open_session, ObjectKind.PACK)
        self.doomed = tuple(name for name in live if name not in stays)

    async def _condemn_packs(self) -> None:
        assert self.doomed is not None
        await retention.condemn(self.world.db, self.claims, self.open_session, self.doomed)
        if self.refused is None:
            self.doomed = ()
        else:
            await self.end()
            self.done = True
