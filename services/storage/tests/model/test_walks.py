"""Random walks of several devices over one bucket on two nodes: the invariants hold after every step, and at rest.

The profile `campaign` (`make campaign-sessions`) walks further.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.common.provision import DatabaseUrls
from services.storage.tests.model.clients import Backup, Client, Restore, Revival
from services.storage.tests.model.forks import Forks
from services.storage.tests.model.invariants import check, needed_only, picture
from services.storage.tests.model.pruning import Retention
from services.storage.tests.model.rest import come_to_rest
from services.storage.tests.model.world import NODES, Node, World, a_world, two_nodes

BLOBS = "abcd"
_WALKS, _STEPS = (400, 80) if os.environ.get("HYPOTHESIS_PROFILE") == "campaign" else (18, 45)
_NODE = st.sampled_from(NODES)
_CHOICE = st.integers(0, 23)


class Walk(RuleBasedStateMachine):
    """`db`, `nodes` and the loop are given by the test."""

    urls: DatabaseUrls
    disks: dict[str, Node]
    runner: asyncio.Runner
    world: World

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.world = a_world(self._open.enter_context(Forks.open(self.urls)), self.disks)
        self._run(self.world.begin(len(NODES)))
        self.backups: list[Backup] = []
        self.retentions = [Retention(name, self.world, self.world.device(), removes=None) for name in ("R", "Q")]
        self.readers: list[Client] = []

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def _walk(self, client: Client, choice: int, *, interrupts: bool = False) -> None:
        moves = [move for move in client.moves() if move.interrupts == interrupts]
        if moves:
            self._run(client.run(moves[choice % len(moves)]))

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
        if device.session is None:
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
        client = [*self.backups, *self.retentions, *self.readers][who]
        if client.session is not None:
            self._walk(client, choice, interrupts=True)

    @rule(choice=_CHOICE)
    def end_a_session(self, choice: int) -> None:
        """What the node does to a session that fell silent, whatever its client is doing; it may still be alive."""
        open_sessions = sorted(
            one.id for one in self._run(picture(self.world)).sessions.values() if one.ended_seq is None
        )
        if open_sessions:
            self._run(self.world.end_silent(open_sessions[choice % len(open_sessions)]))

    @rule(node=_NODE)
    def reap(self, node: str) -> None:
        self._run(self.world.reapers[node].reap())

    @rule(node=_NODE)
    def settle(self, node: str) -> None:
        self._run(self.world.incoming[node].settle())

    @rule(node=_NODE)
    def go_down(self, node: str) -> None:
        """Another one that was down is back."""
        self.world.down = frozenset((node,))

    @precondition(lambda self: self.world.down)
    @rule()
    def heal(self) -> None:
        back, self.world.down = self.world.down, frozenset()
        for node in back:
            self._run(self.world.heal(node))

    def _look(self) -> None:
        promises = [promise for one in self.readers if (promise := one.promise)]
        check(self.world, self._run(picture(self.world)), promises)

    @invariant()
    def holds(self) -> None:
        if self.backups:
            self._look()

    def teardown(self) -> None:
        try:
            self._run(come_to_rest(self.world))
            needed_only(self.world, self._run(picture(self.world)))
        finally:
            self._open.close()


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def walk(urls: DatabaseUrls, tmp_path: Path) -> Iterator[type[Walk]]:
    with two_nodes(tmp_path) as nodes, asyncio.Runner() as runner:
        yield type("Walk", (Walk,), {"urls": urls, "disks": nodes, "runner": runner})


def walks(walk: type[Walk], count: int = _WALKS, steps: int = _STEPS) -> None:
    run_state_machine_as_test(
        walk,
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_lost_whatever_devices_nodes_and_retentions_do(walk: type[Walk]) -> None:
    walks(walk)
