"""An exhaustive search: every order of the steps of a few clients and the nodes, each step done by the nodes' code.

Kept true: a state is gone on from once. Two states are the same when no later step can tell them apart: the same
objects and copies, the same clients, and of all `seq` only what the rules compare (what is condemned against the
openings of open sessions, ends against an open mark).

With `switches` the search goes through all orders in which so often at most somebody moves although who moved before
could go on; whoever is done, or is a node, is followed by anybody. That is complete for a number that few bugs need
more of (context bounding, Musuvathi and Qadeer 2007), and its size is a power of the number and not of the steps.
"""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf
from pathlib import Path
from uuid import UUID

import psycopg

from domain.names import ObjectKind, ObjectName
from services.common.errors import ServiceError
from services.storage.tests.model.clients import Client, Move
from services.storage.tests.model.forks import Forks
from services.storage.tests.model.invariants import Lost, Picture, check, keeps_copies, needed_only, picture
from services.storage.tests.model.rest import come_to_rest
from services.storage.tests.model.world import InFlight, World


@dataclass(frozen=True)
class Step:
    """`what` is done by `who`, a client or "node"; `take` it with so many switches left."""

    who: str
    what: str
    take: Callable[[float], Awaitable[None]]
    ahead: bool = False


_NOT_STATE = frozenset(("world", "claims", "session"))


class Found(AssertionError):
    """A trace that breaks an invariant."""


class TooLong(AssertionError):
    """The search has more steps than it may take."""


@dataclass
class Search:
    """`interrupts`: how often each client may end or die before it is done.

    `silent`: a node ends sessions whose client is still at work.
    `rest`: each end is brought to rest (invariant 4). `limit`: of steps, more of which raise TooLong.
    `first`: who makes which step of the first trace, where one is known: "R", "B:puts an index"; "?B" looks, or draws a
    number, before it makes the step.
    """

    world: World
    db: Forks
    interrupts: int = 0
    rest: bool = True
    silent: bool = False
    switches: float = inf
    limit: int = 1_000_000
    first: Sequence[str] = ()
    steps: int = 0
    ends: int = 0
    _seen: dict[object, dict[str, float]] = field(default_factory=dict)
    _rested: set[object] = field(default_factory=set)
    _trace: list[str] = field(default_factory=list)

    async def run(self, clients: Sequence[Client]) -> None:
        """Go through all. Raises Found."""
        seen = await picture(self.world)
        try:
            check(self.world, seen)
            await self._go_on(list(clients), seen, "", self.switches)
        except (Lost, ServiceError, psycopg.Error) as error:
            # A client that keeps the rules is refused nothing that it cannot go on from, and meets no fault of a node.
            raise Found("\n".join([*self._trace, f"=> {type(error).__name__}: {error}"])) from error

    async def _go_on(self, clients: list[Client], seen: Picture, last: str, left: float) -> None:
        """`last` has moved, and somebody else may do so `left` times although `last` can go on."""
        if self._was_here(_state(seen, clients, self.world), last, left):
            return
        goes_on = any(not move.interrupts for client in clients if client.name == last for move in client.moves())
        steps = [*self._of_clients(clients, seen), *self._of_nodes(clients, seen)]
        # Who has just moved comes first: a state is then mostly reached with as many switches left as it can be.
        for step in sorted(steps, key=lambda one: (self._comes_later(one), one.who != last)):
            rest = left - (goes_on and step.who != last)
            if rest >= 0:
                await step.take(rest)
        if self.rest and not any(not move.interrupts for client in clients for move in client.moves()):
            await self._rest(seen)

    def _comes_later(self, step: Step) -> bool:
        """Whether the search was not told to begin with this step here; all are made in the end."""
        depth = len(self._trace)
        who, _, what = (self.first[depth] if depth < len(self.first) else "").partition(":")
        return who != ("?" if step.ahead else "") + step.who or not step.what.startswith(what)

    def _was_here(self, state: object, last: str, left: float) -> bool:
        """Whether all that can follow has been gone through; who else has moved last makes one switch of difference."""
        before = self._seen.setdefault(state, {})
        if any(other - (who != last) >= left for who, other in before.items()):
            return True
        before[last] = left
        return False

    def _of_clients(self, clients: list[Client], seen: Picture) -> list[Step]:
        ahead = self.world.ahead
        steps: list[Step] = []
        for place, client in enumerate(clients):
            for number, move in enumerate(client.moves()):
                if (move.interrupts and client.interrupted >= self.interrupts) or not _may(client, move):
                    continue
                take = partial(self._move, clients, seen, place, number)
                steps.append(Step(client.name, move.label, take))
                if (ahead.draws or ahead.looks) and client.drawn is None and client.looked is None:
                    steps.append(Step(client.name, move.label, partial(take, ahead=True), ahead=True))
        return steps

    def _of_nodes(self, clients: list[Client], seen: Picture) -> list[Step]:
        return [
            Step("node", move.label, partial(self._step, [copy.copy(one) for one in clients], seen, move, None))
            for move in _moves_of_nodes(self.world, seen, clients, silent=self.silent)
        ]

    async def _move(
        self, clients: list[Client], seen: Picture, place: int, number: int, left: float, *, ahead: bool = False
    ) -> None:
        other = copy.copy(clients[place])
        after = [*clients[:place], other, *clients[place + 1 :]]
        move = other.moves()[number]
        if not ahead:
            await self._step(after, seen, move, other, left, who=other.name)
        elif self.world.ahead.draws:
            drawing = Move(f"{other.name} draws a number before it {move.label}", other.draw)
            await self._step(after, seen, drawing, None, left, who=other.name)
        else:
            await self._look(after, seen, other, number, left)

    async def _look(self, clients: list[Client], seen: Picture, client: Client, number: int, left: float) -> None:
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
            await self._go_on(clients, seen, client.name, left)
            self._trace.pop()

    async def _step(
        self,
        clients: list[Client],
        before: Picture,
        move: Move,
        client: Client | None,
        left: float,
        *,
        who: str = "node",
    ) -> None:
        if self.steps >= self.limit:
            raise TooLong(f"{self.steps} steps, and {len(self._seen)} states")
        self.steps += 1
        self._trace.append(f"{client.name} {move.label}" if client else move.label)
        async with self._fork(before):
            await (client.run(move) if client else move.act())
            seen = await picture(self.world)
            check(self.world, seen, [promise for one in clients if (promise := one.promise)])
            keeps_copies(self.world, before, seen)
            await self._go_on(clients, seen, who, left)
        self._trace.pop()

    async def _rest(self, seen: Picture) -> None:
        """Once for all states that differ only in what is over by then: sessions, clients, orders of condemnations."""
        state = tuple(sorted((name, row.state) for name, row in seen.rows.items())), *_on_disks(seen, {})
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
        staged = {node: {path: path.read_bytes() for path in world.staged(node)} for node in world.nodes}
        async with self.db.fork():
            yield
        for node, files in before.files.items():
            for name in {*world.made, *before.rows}:
                _set(world.nodes[node].disk.path(world.claims.bucket, name), world, name, there=name in files)
            for path in world.staged(node).keys() - staged[node].keys():
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
    """What nodes do by themselves: they reap, end silent sessions, settle incoming files, come back and heal."""
    moves = [Move("the nodes that are down come back", world.come_back)] if world.down else []
    if any(row.state == "condemned" for row in seen.rows.values()):
        moves.append(Move("the reaper decides", world.reapers["a"]._decide))
    moves += [
        Move(f"node {node} removes some", _removing(world, node))
        for node in sorted({one for _, one in seen.removals} - world.down)
    ]
    lacking = sorted({node for _, node in seen.missing} - world.down)
    moves += [Move(f"node {node} fetches a copy", partial(world.heal, node, streams=1)) for node in lacking]
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


def _state(seen: Picture, clients: Sequence[Client], world: World) -> object:
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
    # Packs that are long gone may be asked for as well.
    packs = frozenset(name for name in world.made if name.kind is ObjectKind.PACK)
    return (
        tuple(sorted(objects)),
        sessions,
        _on_disks(seen, order),
        packs,
        world.down,
        tuple(map(_client_state, clients)),
    )


def _counts(session: str, order: dict[UUID, int], over: set[UUID]) -> bool:
    return UUID(session) in order or UUID(session) in over


def _on_disks(seen: Picture, order: dict[UUID, int]) -> tuple[object, ...]:
    """`order`: of the sessions that are not over."""
    return tuple(
        (node, files, tuple(sorted((name, order.get(session, -1)) for name, session in seen.staged[node].elements())))
        for node, files in sorted(seen.files.items())
    )


def _client_state(client: Client) -> object:
    values = []
    for one in fields(client):
        if one.name not in _NOT_STATE:
            value = getattr(client, one.name)
            if isinstance(value, InFlight):
                value = value.put.name
            values.append(repr(value) if one.name == "looked" else value.name if hasattr(value, "body") else value)
    return client.session is not None, tuple(values)
