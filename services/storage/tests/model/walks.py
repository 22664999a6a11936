"""Random walks of several devices over one bucket on two nodes: the invariants hold after every step, and at rest.

In a `Walk` a step is a call, or a few that nothing can come between to any effect. In a `Crowd` the calls of clients
and nodes are on their way at once, on connections of their own; a step is a statement, a commit or work on a disk.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.common.database import Database
from services.common.provision import DatabaseUrls
from services.storage.tests.model.catalogue import clear
from services.storage.tests.model.clients import Backup, Client, Restore
from services.storage.tests.model.forks import Units
from services.storage.tests.model.invariants import Picture, check, keeps_copies, needed_only, picture
from services.storage.tests.model.pruning import Retention
from services.storage.tests.model.rest import come_to_rest
from services.storage.tests.model.reviving import Revival
from services.storage.tests.model.turns import Call, TurnDatabase, Turns
from services.storage.tests.model.world import NODES, Node, a_world

BLOBS = "abcd"
_NODE = st.sampled_from(NODES)
_CHOICE = st.integers(0, 23)


class Walk(RuleBasedStateMachine):
    """`urls`, `disks` and the loop are given by the test."""

    urls: DatabaseUrls
    disks: dict[str, Node]
    runner: asyncio.Runner
    fetches = 100  # that a node makes at once

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.world = a_world(self._database(), self.disks)
        self._run(self.world.begin(len(NODES)))
        self.backups: list[Backup] = []
        self.retentions = [Retention(name, self.world, self.world.device(), removes=None) for name in ("R", "Q")]
        self.readers: list[Client] = []
        self._is_seen = True
        self._last: Picture | None = None

    def _database(self) -> Any:
        return self._open.enter_context(Units.open(self.urls))

    @property
    def _clients(self) -> list[Client]:
        return [*self.backups, *self.retentions, *self.readers]

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def _is_busy(self, _who: str) -> bool:
        return False

    def _work(self, _who: str, work: Coroutine[Any, Any, Any]) -> None:
        """What somebody does who is not busy."""
        self._is_seen = False
        self._run(work)

    def _walk(self, client: Client, choice: int, *, interrupts: bool = False) -> None:
        moves = [move for move in client.moves() if move.interrupts == interrupts]
        if moves and not self._is_busy(client.name):
            self._work(client.name, client.run(moves[choice % len(moves)]))

    @initialize(wants=st.lists(st.sets(st.sampled_from(BLOBS), min_size=1), min_size=3, max_size=3))
    def devices(self, wants: list[set[str]]) -> None:
        purposes = (Purpose.BACKUP, Purpose.BACKUP, Purpose.ADOPT)
        for number, (blobs, purpose) in enumerate(zip(wants, purposes, strict=True)):
            device = Backup(f"D{number}", self.world, self.world.device(), wants=frozenset(blobs), purpose=purpose)
            device.node = NODES[number % 2]
            self.backups.append(device)
        self.readers = [Restore("X", self.world, self.world.device()), Revival("V", self.world, self.world.device())]

    @rule(number=st.integers(0, 2), choice=_CHOICE, steps=st.integers(1, 4))
    def back_up(self, number: int, choice: int, steps: int) -> None:
        device = self.backups[number]
        for step in range(steps):
            if device.session is None and device.purpose is Purpose.BACKUP:
                # The last one first, and every older one, be it long gone, as a stale cache has it.
                device.parents = (*(made.name for made in self.world.known(ObjectKind.SNAPSHOT)), None)
            self._walk(device, choice + step)
            self._look()

    @rule(number=st.integers(0, 2), wants=st.sets(st.sampled_from(BLOBS), min_size=1), node=_NODE)
    def have_other_files(self, number: int, wants: set[str], node: str) -> None:
        device = self.backups[number]
        if device.session is None and not self._is_busy(device.name):
            device.wants, device.done, device.node = frozenset(wants), False, node
            device.serial += 1

    @rule(
        number=st.integers(0, 1),
        choice=_CHOICE,
        steps=st.integers(1, 6),
        prefers_last=st.booleans(),
        wasteful=st.booleans(),
    )
    def prune(self, number: int, choice: int, steps: int, prefers_last: bool, wasteful: bool) -> None:
        one = self.retentions[number]
        if one.done:
            one.lose()
            one.done = False
        one.prefers_last, one.wasteful = prefers_last, wasteful
        for step in range(steps):
            # Of several moves the last one draws the mark.
            self._walk(one, choice if step == 0 else -1)
            self._look()

    @rule(number=st.integers(0, 1), choice=_CHOICE, steps=st.integers(1, 3))
    def read(self, number: int, choice: int, steps: int) -> None:
        reader = self.readers[number]
        if reader.done and reader.session is None:
            reader.done = False
        for _ in range(steps):
            self._walk(reader, choice)
            self._look()

    @rule(who=st.integers(0, 6), choice=_CHOICE)
    def interrupt(self, who: int, choice: int) -> None:
        client = self._clients[who]
        if client.session is not None:
            self._walk(client, choice, interrupts=True)

    @rule(choice=_CHOICE)
    def end_a_session(self, choice: int) -> None:
        """What the node does to a session that fell silent, whatever its client is doing; it may still be alive."""
        open_sessions = sorted(
            one.id for one in self._run(picture(self.world)).sessions.values() if one.ended_seq is None
        )
        if open_sessions:
            self._work("end", self.world.end_silent(open_sessions[choice % len(open_sessions)]))

    @rule(node=_NODE)
    def reap(self, node: str) -> None:
        self._work(f"reap {node}", self.world.reapers[node].reap())

    @rule(node=_NODE)
    def settle(self, node: str) -> None:
        self._work(f"settle {node}", self._settle(node))

    async def _settle(self, node: str) -> None:
        await self.world.incoming[node].settle()

    @rule(node=_NODE)
    def go_down(self, node: str) -> None:
        """Another one that was down is back."""
        self.world.down = frozenset((node,))

    @precondition(lambda self: self.world.down)
    @rule()
    def heal(self) -> None:
        back, self.world.down = self.world.down, frozenset()
        for node in back:
            self._work(f"heal {node}", self.world.heal(node, streams=self.fetches))

    def _look(self) -> None:
        """Unless nothing was done since the last look."""
        if self._is_seen:
            return
        promises = [promise for one in self.readers if (promise := one.promise)]
        seen = self._run(picture(self.world))
        check(self.world, seen, promises)
        if self._last is not None:
            keeps_copies(self.world, self._last, seen)
        self._last, self._is_seen = seen, True

    @invariant()
    def holds(self) -> None:
        self._look()

    def teardown(self) -> None:
        try:
            self._run(come_to_rest(self.world))
            needed_only(self.world, self._run(picture(self.world)))
        finally:
            self._open.close()


class Crowd(Walk):
    """`db` and `watch` are given by the test as well."""

    db: Database
    watch: psycopg.AsyncConnection[Any]
    fetches = 1

    def __init__(self) -> None:
        self._turns = Turns(self.watch)
        self._calls: dict[str, Call] = {}
        super().__init__()

    def _database(self) -> Any:
        self._run(clear(self.watch))
        return TurnDatabase(self.db)

    def _is_busy(self, who: str) -> bool:
        return who in self._calls

    def _work(self, who: str, work: Coroutine[Any, Any, Any]) -> None:
        """Begins it, as far as its first statement."""
        if self._is_busy(who):
            work.close()
        else:
            self._calls[who] = self._run(self._turns.begin(work))

    @precondition(lambda self: self._calls)
    @rule(choice=_CHOICE, turns=st.integers(1, 8))
    def let_one_go_on(self, choice: int, turns: int) -> None:
        """Unless it waits for a lock of another one."""
        who = sorted(self._calls)[choice % len(self._calls)]
        for _ in range(turns):
            call = self._calls.get(who)
            if call is None or not call.can_go_on:
                break
            self._is_seen = False
            self._run(self._turns.go_on(call))
            self._put_away()
            self._look()

    @precondition(lambda self: self._calls)
    @rule(choice=_CHOICE)
    def let_all_finish(self, choice: int) -> None:
        """The first one first."""
        order = sorted(self._calls)
        first = choice % len(order)
        self._is_seen = False
        self._run(self._turns.finish(*(self._calls[who] for who in order[first:] + order[:first])))
        self._put_away()

    @precondition(lambda self: self._calls)
    @rule(choice=_CHOICE)
    def die(self, choice: int) -> None:
        """A client with the call that it waits for, or a node with what it does by itself, wherever that is."""
        who = sorted(self._calls)[choice % len(self._calls)]
        self._is_seen = False
        self._run(self._turns.kill(self._calls.pop(who)))
        for client in self._clients:
            if client.name == who:
                client.lose()
        self._put_away()

    def _put_away(self) -> None:
        """What is done. Raises what it has raised."""
        for who in [who for who, call in self._calls.items() if call.task.done()]:
            self._calls.pop(who).task.result()

    def teardown(self) -> None:
        try:
            self._run(self._turns.finish(*self._calls.values()))
            self._put_away()
            super().teardown()
        finally:
            for call in self._calls.values():
                self._run(self._turns.kill(call))
