"""Small cases that are searched exhaustively. Each holds traces of "What happens without a rule" (docs/sessions.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from string import ascii_letters, digits

import pytest

from domain.names import ObjectName
from domain.sessions import Purpose
from services.common.provision import DatabaseUrls
from services.storage.sessions import lifecycle
from services.storage.tests.model.clients import Backup, Client, Restore
from services.storage.tests.model.contents import a_pack, a_snapshot, an_index
from services.storage.tests.model.faults import Fault
from services.storage.tests.model.forks import Forks
from services.storage.tests.model.pruning import Retention
from services.storage.tests.model.reviving import Restoration, Revival
from services.storage.tests.model.search import Search
from services.storage.tests.model.world import Node, World, a_world


@dataclass(frozen=True)
class Case:
    """`numbers`: which of the sixteen it is about. `switches`: of its search, in `make test` and in the campaign.

    `packs` and `snapshots` are there at the beginning. A letter is a blob; packs of the same blobs differ by a digit.
    """

    name: str
    numbers: tuple[int, ...]
    clients: Callable[[World, list[ObjectName]], list[Client]]
    packs: tuple[str, ...] = ("a", "b")
    snapshots: tuple[str, ...] = ("a", "b")
    interrupts: int = 0
    interrupted: str = ""  # the one client that is, in `make test`; "": every one
    silent: bool = False
    locked: bool = False
    is_down: bool = False  # one of two homes, from the beginning to when it comes back
    switches: tuple[float, float] = (0, 2)


async def begin(world: World, case: Case, copies: int = 1) -> list[ObjectName]:
    """The bucket with the case's packs and snapshots. Answers these."""
    await world.begin(copies)
    claims = world.device()
    session = await world.open(claims, Purpose.BACKUP)
    packs = [a_pack(frozenset(one) - set(digits), one.strip(ascii_letters)) for one in case.packs]
    for pack in packs:
        await world.put(claims, session, pack)
    index = an_index({pack.name: pack.holds for pack in packs})
    await world.put(claims, session, index, packs=sorted(index.lists))
    made = [a_snapshot(frozenset(blobs), f"S{number}") for number, blobs in enumerate(case.snapshots)]
    for snapshot in made:
        await world.put(claims, session, snapshot)
    await lifecycle.end(world.db, claims, session)
    return [one.name for one in made]


async def search(
    case: Case,
    urls: DatabaseUrls,
    nodes: dict[str, Node],
    fault: Fault | None = None,
    *,
    switches: float = inf,
    rest: bool = False,
    everyone: bool = False,
    limit: int = 1_000_000,
) -> Search:
    """Go through all orders of the steps with so many switches, and let each end come to `rest`.

    With `everyone`, clients are interrupted that the case says are not in `make test`.

    A fault with a trace is searched from there on, with any number of switches.

    Raises Found, and TooLong after `limit` steps.
    """
    with Forks.open(urls) as db, pytest.MonkeyPatch.context() as patch:
        world = a_world(db, nodes if case.is_down else {"a": nodes["a"]})
        world.locked = case.locked
        snapshots = await begin(world, case, copies=len(world.nodes))
        world.down = frozenset("b" if case.is_down else "")
        done = Search(world, db, case.interrupts, rest=rest, silent=case.silent, switches=switches, limit=limit)
        if fault is not None:
            [(world.ahead.numbers,)] = await _seq(world)
            world.faults = frozenset((fault.client,))
            fault.patch(patch, world.ahead)
            done.first = fault.trace
        clients = case.clients(world, snapshots)
        for client in clients:
            if case.interrupted not in ("", client.name) and not everyone:
                client.interrupted = case.interrupts
        await done.run(clients)
        return done


async def _seq(world: World) -> list[tuple[int]]:
    async with world.db.worker() as unit:
        cursor = await unit.execute("select seq from buckets where id = %s", (world.claims.bucket,))
        return await cursor.fetchall()


def _backup(world: World, wants: str, name: str = "B", **others: object) -> Backup:
    return Backup(name, world, world.device(), wants=frozenset(wants), fine=False, **others)  # type: ignore[arg-type]


def _retention(world: World, *removes: ObjectName, name: str = "R", **others: object) -> Retention:
    return Retention(name, world, world.device(), removes=removes, **{"fine": False, **others})  # type: ignore[arg-type]


CASES = [
    Case(
        "mixed pack",
        (1,),
        lambda world, made: [_retention(world, made[1]), _backup(world, "ab", parents=(made[0],))],
        packs=("ab",),
        switches=(1, 2),
    ),
    Case(
        "two packs",
        (2, 3),
        lambda world, made: [_retention(world, made[1]), _backup(world, "ab", parents=(made[0],))],
    ),
    Case(
        "late parent",
        (3, 4),
        lambda world, _made: [
            _backup(world, "b", stale=False),
            _backup(world, "b", "C", parents=(a_snapshot(frozenset("b"), "B 0").name,), stale=False),
            _retention(world),
        ],
        packs=("a",),
        snapshots=("a",),
        switches=(0, 1),
    ),
    Case(
        "pinned",
        (4,),
        lambda world, made: [_retention(world, made[0]), _backup(world, "a", parents=(made[0],))],
    ),
    Case(
        "pinned again",
        (4,),
        lambda world, made: [_retention(world, made[0]), _backup(world, "a", parents=(made[0],))],
        interrupts=1,
        switches=(0, 1),
    ),
    Case(
        "silent",
        (5,),
        lambda world, made: [_retention(world, made[1], fine=True), _backup(world, "b")],
        silent=True,
    ),
    Case(
        "two retentions",
        (5, 6),
        lambda world, _made: [_retention(world), _retention(world, name="Q", prefers_last=True)],
        packs=("a1", "a2"),
        snapshots=("a",),
        silent=True,
    ),
    Case(
        "resume",
        (8,),
        lambda world, _made: [_backup(world, "b", stale=False), _retention(world)],
        packs=("a",),
        snapshots=("a",),
        interrupts=1,
    ),
    Case(
        "checkpoint",
        (9,),
        lambda world, _made: [
            _backup(world, "b", stale=False),
            _backup(world, "b", "C"),
            _retention(world),
        ],
        packs=("a",),
        snapshots=("a",),
        interrupts=1,
        interrupted="B",
        switches=(0, 1),
    ),
    Case(
        "adoption",
        (10,),
        lambda world, _made: [_backup(world, "b", stale=False, purpose=Purpose.ADOPT), _retention(world)],
        packs=("a",),
        snapshots=("a",),
        interrupts=1,
    ),
    Case(
        "revival",
        (10,),
        lambda world, made: [_retention(world, made[1]), Revival("V", world, world.device())],
        interrupts=1,
    ),
    Case(
        "operator",
        (10,),
        lambda world, made: [_retention(world, made[1]), Restoration("O", world, world.device())],
        interrupts=1,
    ),
    Case(
        "restore",
        (11,),
        lambda world, made: [_retention(world, made[1]), Restore("X", world, world.device())],
        interrupts=1,
    ),
    Case(
        "locked index",
        (12,),
        lambda world, made: [_retention(world, made[1])],
        packs=("ab",),
        locked=True,
        switches=(inf, inf),
    ),
    Case(
        "a home is down",
        (),
        lambda world, made: [_retention(world, made[1])],
        packs=("ab",),
        is_down=True,
    ),
    Case(
        "two backups",
        (2, 3),
        lambda world, made: [
            _retention(world, made[1]),
            _backup(world, "ab", parents=(made[0],)),
            _backup(world, "b", "C"),
        ],
        switches=(0, 1),
    ),
]
