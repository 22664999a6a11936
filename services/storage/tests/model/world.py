"""One bucket on two nodes as their own code keeps it: the real catalogue and real disks, called without the wire.

Kept true: everything that decides is the nodes' code (sessions, retention, puts, incoming, reaper, replication) on a
real Postgres; what stands in for gRPC are two disks in one process. No step leaves anything running, or the calls that
run take turns (turns.py), so what is looked at between two steps is what a crash there would leave.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.clock import SystemClock
from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.errors import TooFewCopies
from services.storage.regions.healing import OtherRegions
from services.storage.removal.reaper import Reaper
from services.storage.sessions import entries, lifecycle
from services.storage.sessions.bodies import Announced
from services.storage.store import buckets, nodes
from services.storage.tests.cluster import a_device
from services.storage.tests.model.ahead import Ahead
from services.storage.tests.model.contents import Made
from services.storage.tests.model.turns import take_turn
from services.storage.transfer.copies import LocalCopy
from services.storage.transfer.frames import get_message, put_frames
from services.storage.transfer.gets import LocalObjects
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.own import OwnCopies
from services.storage.transfer.patience import Patience
from services.storage.transfer.puts import Put, Puts, Spread
from services.storage.upkeep import replication
from services.storage.upkeep.replication import Replicator
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads, Result

NODES = ("a", "b")
# No node of the model falls silent, and no session ends by itself.
LONG = timedelta(days=365)
_LONG_SECONDS = LONG.total_seconds()
_PAGE = 3


class InlineThreads(DiskThreads):
    """Runs work on a disk where it is asked for: nothing goes on between two steps."""

    def __init__(self) -> None:
        pass

    async def run(self, step: Callable[[], Result]) -> Result:
        return step()


class TurnThreads(InlineThreads):
    """As that, when it is the turn of the call."""

    async def run(self, step: Callable[[], Result]) -> Result:
        await take_turn()
        return step()


class NearPuts(Puts):
    """Puts whose copies all lie on disks of this process; those on nodes that are `down` fail."""

    def __init__(self, node: "Node", world: "World") -> None:
        super().__init__(
            node.name,
            world.db,
            node.disks,
            InlineThreads(),
            None,  # type: ignore[arg-type] # peers: no copy goes over the wire
            patience=Patience(SystemClock(), asyncio.Event(), 8),
            silent_seconds=_LONG_SECONDS,
            copy_seconds=1,
        )
        self._world = world

    async def _spread(self, put: Put) -> Spread | None:
        announced = Announced(put.name, put.size, put.packs)
        plan = await entries.plan_put(self._db, put.claims, put.session, announced, self._silent_seconds)
        if plan.exists:
            return None
        staged = StagedName(put.claims.bucket, put.session, put.name, put.sha256)
        up = [self._world.nodes[home.node_id] for home in plan.homes if home.node_id not in self._world.down]
        if len(up) < plan.ack_copies:
            raise TooFewCopies(detail="All nodes are down.")
        enough = len(up) if plan.everywhere else 1
        return Spread([LocalCopy(one.name, one.disks, self._threads, staged, put.size) for one in up], enough)

    async def _place(self, put: Put, spread: Spread, placed_on: frozenset[str]) -> None:
        # A body on its way is nobody's business; its way from the entry to its place is.
        await take_turn()
        await super()._place(put, spread, placed_on)


@dataclass
class Node:
    """One node's disk and the parts of it that are no calls."""

    name: str
    disks: Disks
    threads: TurnThreads = field(default_factory=TurnThreads)

    @property
    def disk(self) -> Disk:
        [disk] = self.disks
        assert isinstance(disk, Disk)
        return disk


@dataclass
class InFlight:
    """A put between its durable copies and its entry."""

    put: Put
    spread: Spread
    puts: NearPuts


@dataclass
class World:
    """The bucket. `made` is every body that anybody made, `down` the nodes that take no copies now."""

    db: Database
    nodes: dict[str, Node]
    claims: VaultClaims
    made: dict[ObjectName, Made] = field(default_factory=dict)
    down: frozenset[str] = frozenset()
    faults: frozenset[str] = frozenset()  # rules that the clients break on purpose (faults.py)
    locked: bool = False  # an object lock holds the first of the index files that a retention would condemn
    ahead: Ahead = field(default_factory=Ahead)
    sessions_opened: int = 0

    def __post_init__(self) -> None:
        self.puts = {name: NearPuts(node, self) for name, node in self.nodes.items()}
        self.incoming = {name: Incoming(name, self.db, one.disks, one.threads) for name, one in self.nodes.items()}
        self.reapers = {
            name: Reaper(
                name, self.db, one.disks, one.threads, self.incoming[name], basket=timedelta(), sessions_kept=LONG
            )
            for name, one in self.nodes.items()
        }

    async def begin(self, copies: int) -> None:
        """Make the bucket and initialise its vault."""
        claims = self.claims
        async with self.db.worker() as unit:
            for node in self.nodes:
                await nodes.heartbeat(
                    unit,
                    node,
                    public_endpoint=node,
                    internal_endpoint=node,
                    free_bytes=1 << 40,
                    reconciled=True,
                    catalogue=nodes.HOMES_CHANGE,
                )
            bucket = buckets.NewBucket(claims.bucket, claims.tenant, claims.user, copies, 1, 0)
            await buckets.insert(unit, bucket)
            await buckets.insert_homes(unit, bucket, list(self.nodes)[:copies])
        session = await self.open(claims, Purpose.BACKUP)
        key = ObjectName.of(ObjectKind.KEY, b"key")
        bodies = [(name, body) for name, body in ((key, b"key"), (CONFIG, b"config"), (SEAL, b"seal"))]
        puts = [(self._put(claims, session, name, body, ()), body) for name, body in bodies]
        assert await self.puts["a"].initialise(claims, session, puts)
        await lifecycle.end(self.db, claims, session)

    def remember(self, made: Made) -> Made:
        self.made[made.name] = made
        return made

    def session_id(self) -> UUID:
        self.sessions_opened += 1
        return UUID(int=(self.claims.bucket.int >> 16 << 16) + self.sessions_opened)

    async def open(self, claims: VaultClaims, purpose: Purpose, parent: ObjectName | None = None) -> UUID:
        session = self.session_id()
        await lifecycle.open_session(self.db, claims, session, purpose, parent)
        return session

    async def end_silent(self, session: UUID) -> None:
        """What a node does to a session whose client has gone."""
        async with self.db.worker() as unit:
            await unit.execute("update sessions set last_beat = to_timestamp(0) where id = %s", (session,))
        await lifecycle.end_silent(self.db, LONG, LONG)

    @staticmethod
    def _put(claims: VaultClaims, session: UUID, name: ObjectName, body: bytes, packs: Sequence[ObjectName]) -> Put:
        return Put(claims, session, name, sha256(body).digest(), len(body), packs)

    async def begin_put(
        self, claims: VaultClaims, session: UUID, made: Made, *, node: str = "a", packs: Sequence[ObjectName] = ()
    ) -> InFlight | None:
        """Take a body as far as its durable copies; None if the name was there, and is put again by that."""
        self.remember(made)
        put = self._put(claims, session, made.name, made.body, packs)
        puts = self.puts[node]
        spread = await puts._spread(put)
        if spread is None:
            await entries.put_again(self.db, claims, session, made.name, packs)
            return None
        await spread.begin()
        for frame in put_frames(made.body):
            await spread.write(frame)
        await spread.stage()
        return InFlight(put, spread, puts)

    async def finish_put(self, flight: InFlight) -> None:
        """Enter the body, and place or discard its copies."""
        await flight.puts._enter(flight.put, flight.spread)

    async def enter_and_die(self, flight: InFlight) -> None:
        """Enter the body; the node that coordinates dies before it has placed or discarded a copy."""
        put, spread = flight.put, flight.spread
        await entries.enter(self.db, put.claims, put.session, spread.body_of(put), put.packs)

    async def put(
        self, claims: VaultClaims, session: UUID, made: Made, *, node: str = "a", packs: Sequence[ObjectName] = ()
    ) -> None:
        flight = await self.begin_put(claims, session, made, node=node, packs=packs)
        if flight is not None:
            await self.finish_put(flight)

    async def names(self, claims: VaultClaims, session: UUID, kind: ObjectKind) -> list[ObjectName]:
        """All pages of a list."""
        found = page = await self.page(claims, session, kind, None)
        while len(page) == _PAGE:
            page = await self.page(claims, session, kind, page[-1])
            found += page
        return found

    async def page(
        self, claims: VaultClaims, session: UUID, kind: ObjectKind, after: ObjectName | None, limit: int = _PAGE
    ) -> list[ObjectName]:
        digest = bytes.fromhex(after.id) if after else None
        listed = await lifecycle.list_objects(self.db, claims, session, kind, after=digest, limit=limit)
        return [ObjectName(kind, bytes(one.sha256).hex()) for one in listed]

    async def read(self, claims: VaultClaims, session: UUID, name: ObjectName, node: str = "a") -> bytes:
        """An object as the session sees it, from `node` or from another that holds it. Raises NotFound."""
        seen = await lifecycle.see(self.db, claims, session, name, node)
        for place in (node, *(other for other in self.nodes if other != node)):
            one = self.nodes[place]
            local = LocalObjects(place, self.db, one.disks, one.threads, self.incoming[place])
            opened = await local.open(claims.bucket, name, seen.size)
            if opened is not None:
                try:
                    body = opened.read(0, seen.size)
                finally:
                    opened.close()
                assert sha256(body).digest() == bytes(seen.sha256), f"{name} has another content on {place}"
                return body
        await lifecycle.see(self.db, claims, session, name, node)  # its session may have been ended meanwhile
        raise AssertionError(f"{name} is seen by session {session} and lies on no node")

    async def come_back(self) -> None:
        """The nodes that were down take copies again."""
        self.down = frozenset()

    async def heal(self, node: str, *, streams: int = 100) -> None:
        """Fetch up to `streams` that the node lacks, with its own code; bodies come from the other disk."""
        one = self.nodes[node]
        own = OwnCopies(node, self.db, one.disks, one.threads, self.incoming[node])
        async with self.db.worker() as unit:
            await unit.execute(
                "update missing_copies set retry_at = now() - interval '1 second' where node_id = %s", (node,)
            )
        await Replicator(
            node,
            self.db,
            one.disks,
            one.threads,
            self.nodes,  # type: ignore[arg-type] # what `near_fetch` gets as peers
            own=own,
            regions=OtherRegions(self.db, None, SystemClock(), 1),  # type: ignore[arg-type] # peers: there is no other cluster
            clock=SystemClock(),
            streams=streams,
            bytes_per_second=1 << 40,
            silent_seconds=_LONG_SECONDS,
            copy_seconds=1,
            poll_seconds=0,
            registry=CollectorRegistry(),
        ).heal()

    def lies(self, node: str, name: ObjectName) -> bool:
        """Whether the object's file is in its place."""
        return os.path.lexists(f"{self.nodes[node].disk.buckets}/{self.claims.bucket}/{name.path}")

    def staged(self, node: str) -> dict[Path, StagedName]:
        """Whole incoming files."""
        return {one.path: one.staged for one in self.nodes[node].disk.staged(self.claims.bucket)}

    def known(self, kind: ObjectKind) -> list[Made]:
        """What a client may have seen, by name, be it long gone."""
        return [self.made[name] for name in sorted(self.made) if name.kind is kind]

    def device(self) -> VaultClaims:
        own = self.claims
        other = a_device(tenant=own.tenant, user=own.user, bucket=own.bucket)
        return replace(other, scopes=frozenset(Scope))


async def near_fetch(
    peers: dict[str, Node], endpoint: str, request: tuple[UUID, ObjectName], _seconds: float
) -> AsyncGenerator[bytes, None]:
    """What another node sends of an object."""
    place = peers[endpoint].disk.path(*request)
    if not place.exists():
        raise Unavailable(what=f"{request[1]} on node {endpoint}")
    yield get_message(place.read_bytes())


@contextmanager
def two_nodes(folder: Path) -> Iterator[dict[str, Node]]:
    """Open disks of two nodes, and let nothing wait for a disk: a crash here is never the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)
        patch.setattr(replication, "fetch", near_fetch)
        patch.setattr(replication, "copy_request", lambda bucket, name, *_: (bucket, name))
        opened = {name: Node(name, Disks([Disk(folder / name, name, 0)], name)) for name in NODES}
        try:
            yield opened
        finally:
            for node in opened.values():
                node.disks.close()


def a_world(db: Any, nodes: dict[str, Node]) -> World:
    return World(db, nodes, replace(a_device(bucket=uuid4()), scopes=frozenset(Scope)))
