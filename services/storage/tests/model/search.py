"""An exhaustive search: every order of the steps of a few clients and the reaper, each step done by the nodes' code.

Kept true: a state is gone on from once. Two states are the same when no later step can tell them apart: the same
objects and copies, the same clients, and of all `seq` only what the rules compare (what is condemned against the
openings of open sessions, ends against an open mark).
"""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from uuid import UUID

from domain.names import ObjectName
from services.common.errors import ServiceError
from services.storage.tests.model.clients import Client, Move
from services.storage.tests.model.forks import Forks
from services.storage.tests.model.invariants import Lost, Picture, check, needed_only, picture
from services.storage.tests.model.rest import come_to_rest
from services.storage.tests.model.world import InFlight, World

_NOT_STATE = frozenset(("world", "claims", "session"))


class Found(AssertionError):
    """A trace that breaks an invariant."""


@dataclass
class Search:
    """`interrupts`: how often each client may end or die before it is done.

    `silent`: a node ends sessions whose client is still at work.
    `rest`: each end is brought to rest (invariant 4). `first`: who makes which step of the first trace.
    """

    world: World
    db: Forks
    interrupts: int = 0
    rest: bool = True
    silent: bool = False
    limit: int = 1_000_000
    first: Sequence[str] = ()
    steps: int = 0
    ends: int = 0
    _seen: set[object] = field(default_factory=set)
    _rested: set[object] = field(default_factory=set)
    _trace: list[str] = field(default_factory=list)

    async def run(self, clients: Sequence[Client]) -> None:
        """Go through all. Raises Found."""
        seen = await picture(self.world)
        try:
            check(self.world, seen)
            await self._go_on(list(clients), seen)
        except (Lost, ServiceError) as error:
            # A client that keeps the rules is refused nothing that it cannot go on from.
            raise Found("\n".join([*self._trace, f"=> {type(error).__name__}: {error}"])) from error

    async def _go_on(self, clients: list[Client], seen: Picture) -> None:
        state = _state(seen, clients)
        if state in self._seen:
            return
        self._seen.add(state)
        steps = [
            (client.name, move.label, partial(self._move, clients, seen, place, number))
            for place, client in enumerate(clients)
            for number, move in enumerate(client.moves())
            if (client.interrupted < self.interrupts or not move.interrupts) and _may(client, move)
        ]
        is_end = not any(not move.interrupts for client in clients for move in client.moves())
        if self.world.ahead.draws or self.world.ahead.looks:
            idle = {client.name for client in clients if client.drawn is None and client.looked is None}
            steps += [(f"?{name}", label, partial(step, ahead=True)) for name, label, step in steps if name in idle]
        steps += [
            ("node", move.label, partial(self._step, [copy.copy(client) for client in clients], seen, move, None))
            for move in _moves_of_nodes(self.world, seen, clients, silent=self.silent)
        ]
        for _, _, step in sorted(steps, key=self._comes_later):
            await step()
        if is_end and self.rest:
            await self._rest(seen)

    def _comes_later(self, step: tuple[str, str, object]) -> bool:
        """Whether the search was not told to begin with this step here; all are made in the end."""
        depth = len(self._trace)
        who, _, what = (self.first[depth] if depth < len(self.first) else "").partition(":")
        return step[0] != who or not step[1].startswith(what)

    async def _move(
        self, clients: list[Client], seen: Picture, place: int, number: int, *, ahead: bool = False
    ) -> None:
        other = copy.copy(clients[place])
        after = [*clients[:place], other, *clients[place + 1 :]]
        move = other.moves()[number]
        if not ahead:
            await self._step(after, seen, move, other)
        elif self.world.ahead.draws:
            await self._step(after, seen, Move(f"{other.name} draws a number before it {move.label}", other.draw), None)
        else:
            await self._look(after, seen, other, number)

    async def _look(self, clients: list[Client], seen: Picture, client: Client, number: int) -> None:
        """Let a client look at what decides on its next move, and others go on before it makes it."""
        told = self.world.ahead.recording = []
        async with self._fork(seen):
            trying = copy.copy(client)
            await trying.run(trying.moves()[number])
        self.world.ahead.recording = None
        if told:
            label = client.moves()[number].label
            client.looked = (label, tuple(told))
            self._trace.append(f"{client.name} looks before it {label}")
            await self._go_on(clients, seen)
            self._trace.pop()

    async def _step(self, clients: list[Client], before: Picture, move: Move, client: Client | None) -> None:
        if self.steps >= self.limit:
            return
        self.steps += 1
        self._trace.append(f"{client.name} {move.label}" if client else move.label)
        async with self._fork(before):
            await (client.run(move) if client else move.act())
            seen = await picture(self.world)
            check(self.world, seen, [promise for one in clients if (promise := one.promise)])
            await self._go_on(clients, seen)
        self._trace.pop()

    async def _rest(self, seen: Picture) -> None:
        """Once for all states that differ only in what is over by then: sessions, clients, orders of condemnations."""
        state = tuple(sorted((name, row.state) for name, row in seen.rows.items())), *_on_disks(seen)
        if state in self._rested:
            return
        self._rested.add(state)
        self.ends += 1
        self._trace.append("all comes to rest")
        async with self._fork(seen):
            await come_to_rest(self.world)
            needed_only(self.world, await picture(self.world))
        self._trace.pop()

    @asynccontextmanager
    async def _fork(self, before: Picture) -> AsyncIterator[None]:
        """Catalogue, disks and world as they were, once the block is left without an error."""
        world = self.world
        made, opened, numbers = dict(world.made), world.sessions_opened, world.ahead.numbers
        down, locked = world.down, world.locked
        staged = {node: {path: path.read_bytes() for path in world.staged(node).values()} for node in world.nodes}
        async with self.db.fork():
            yield
        for node, files in before.files.items():
            for name in {*world.made, *before.rows}:
                _set(world.nodes[node].disk.path(world.claims.bucket, name), world, name, there=name in files)
            for path in set(world.staged(node).values()) - set(staged[node]):
                path.unlink()
            for path, body in staged[node].items():
                path.write_bytes(body)
        world.made, world.sessions_opened, world.ahead.numbers = made, opened, numbers
        world.down, world.locked = down, locked


def _may(client: Client, move: Move) -> bool:
    return client.looked is None or client.looked[0] == move.label


def _set(path: Path, world: World, name: ObjectName, *, there: bool) -> None:
    if there and name in world.made:
        if not path.exists():
            path.write_bytes(world.made[name].body)
    elif not there:
        path.unlink(missing_ok=True)


def _moves_of_nodes(world: World, seen: Picture, clients: Sequence[Client], *, silent: bool) -> list[Move]:
    """What nodes do by themselves: they reap, end silent sessions, settle incoming files."""
    moves = []
    if any(row.state == "condemned" for row in seen.rows.values()):
        moves.append(Move("the reaper decides", world.reapers["a"]._decide))
    moves += [
        Move(f"node {node} removes some", _removing(world, node)) for node in sorted({one for _, one in seen.removals})
    ]
    owned = {client.session for client in clients}
    for session in seen.sessions.values():
        if session.ended_seq is None:
            who = next((client.name for client in clients if client.session == session.id), session.purpose)
            if silent or session.id not in owned:
                moves.append(Move(f"the silent session of a {who} is ended", _ending(world, session.id)))
    settling = [node for node in world.nodes if seen.staged[node] and not any(_flight(one) for one in clients)]
    moves += [Move(f"node {node} settles", world.incoming[node].settle) for node in settling]
    return moves


def _ending(world: World, session: UUID) -> Callable[[], Awaitable[None]]:
    return lambda: world.end_silent(session)


def _removing(world: World, node: str) -> Callable[[], Awaitable[object]]:
    return lambda: world.reapers[node]._remove_some(world.claims.bucket)


def _flight(client: Client) -> InFlight | None:
    return getattr(client, "flight", None)


def _state(seen: Picture, clients: Sequence[Client]) -> object:
    """Hashable; equal for two states that no later step can tell apart."""
    owners = {client.session: client.name for client in clients if client.session}
    marks = [one.mark_seq for one in seen.sessions.values() if one.ended_seq is None and one.mark_seq is not None]
    opened = sorted((one for one in seen.sessions.values() if one.ended_seq is None), key=lambda one: one.opened_seq)
    order = {one.id: number for number, one in enumerate(opened)}
    # A session that is over matters while a mark is open that is older than its end.
    over = {one.id for one in seen.sessions.values() if one.ended_seq and marks and one.ended_seq > min(marks)}
    objects = []
    for name, row in seen.rows.items():
        since = -1
        if row.state == "condemned":
            since = sum(one.opened_seq < (row.condemned_seq or 0) for one in opened)
        users = {
            order.get(UUID(one), -1) for number, one in seen.users if number == row.id and _counts(one, order, over)
        }
        pins = {order.get(UUID(one), -1) for number, one in seen.pins if number == row.id}
        lacking = {node for number, node in seen.missing if number == row.id}
        asked = {node for number, node in seen.removals if number == row.id}
        objects.append((name, row.state, since, *(tuple(sorted(one)) for one in (users, pins, lacking, asked))))
    sessions = tuple(
        (owners.get(one.id), one.purpose, one.parent, one.mark_seq is not None, one.pack_seq > one.index_seq)
        for one in opened
    )
    return tuple(sorted(objects)), sessions, _on_disks(seen), tuple(_client_state(client) for client in clients)


def _counts(session: str, order: dict[UUID, int], over: set[UUID]) -> bool:
    return UUID(session) in order or UUID(session) in over


def _on_disks(seen: Picture) -> tuple[object, ...]:
    return tuple((node, seen.files[node], seen.staged[node]) for node in sorted(seen.files))


def _client_state(client: Client) -> object:
    values = []
    for one in fields(client):
        if one.name not in _NOT_STATE:
            value = getattr(client, one.name)
            if isinstance(value, InFlight):
                value = value.put.name
            values.append(repr(value) if one.name == "looked" else value.name if hasattr(value, "body") else value)
    return client.session is not None, tuple(values)
