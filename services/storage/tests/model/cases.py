"""Small cases that are searched exhaustively. Each holds traces of "What happens without a rule" (docs/sessions.md)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.names import ObjectName
from domain.sessions import Purpose
from services.storage import sessions
from services.common.provision import DatabaseUrls
from services.storage.tests.model.clients import Backup, Client, Restore, Revival
from services.storage.tests.model.contents import a_pack, a_snapshot, an_index
from services.storage.tests.model.forks import Forks
from services.storage.tests.model.pruning import Retention
from services.storage.tests.model.search import Search
from services.storage.tests.model.world import Node, World, a_world


@dataclass(frozen=True)
class Case:
    """`packs` and `snapshots` are there at the beginning, each of one or more blobs, one letter a blob."""

    name: str
    clients: Callable[[World, list[ObjectName]], list[Client]]
    packs: tuple[str, ...] = ("a", "b")
    snapshots: tuple[str, ...] = ("a", "b")
    interrupts: bool = True
    deep: bool = False


async def begin(world: World, case: Case, copies: int = 1) -> list[ObjectName]:
    """The bucket with the case's packs and snapshots. Answers these."""
    await world.begin(copies)
    claims = world.device()
    session = await world.open(claims, Purpose.BACKUP)
    packs = [a_pack(frozenset(blobs)) for blobs in case.packs]
    for pack in packs:
        await world.put(claims, session, pack)
    index = an_index({pack.name: pack.holds for pack in packs})
    await world.put(claims, session, index, packs=sorted(index.lists))
    made = [a_snapshot(frozenset(blobs), f"S{number}") for number, blobs in enumerate(case.snapshots)]
    for snapshot in made:
        await world.put(claims, session, snapshot)
    await sessions.end(world.db, claims, session)
    return [one.name for one in made]


async def search(case: Case, urls: DatabaseUrls, nodes: dict[str, Node], limit: int = 1_000_000, faults: frozenset[str] = frozenset()) -> Search:
    """Go through all orders. Raises Found."""
    with Forks.open(urls) as db:
        world = a_world(db, {"a": nodes["a"]})
        world.faults = faults
        snapshots = await begin(world, case)
        done = Search(world, db, interrupts=case.interrupts, limit=limit)
        await done.run(case.clients(world, snapshots))
        return done


def _backup(world: World, wants: str, name: str = "B", **others: object) -> Backup:
    return Backup(name, world, world.device(), wants=frozenset(wants), fine=False, **others)  # type: ignore[arg-type]


def _retention(world: World, *removes: ObjectName, name: str = "R", **others: object) -> Retention:
    return Retention(name, world, world.device(), removes=removes, **others)  # type: ignore[arg-type]


CASES = [
    Case(
        "a backup with a mixed parent pack, and a retention",
        lambda world, made: [_backup(world, "ab", parents=(made[0],)), _retention(world, made[1])],
        packs=("ab",),
    ),
    Case(
        "a restore and a retention that repacks",
        lambda world, made: [Restore("X", world, world.device()), _retention(world, made[1])],
        packs=("ab",),
    ),
]
