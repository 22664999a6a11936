"""A bucket in which every call finds something to do, and calls that get into each other's way.

Kept true: `set_up` leaves the same catalogue each time, so what two calls did is compared by what they answered and by
all that the catalogue then says, but for times.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.removal import retention
from services.storage.sessions import entries, lifecycle
from services.storage.sessions.bodies import Body
from services.storage.tests.model.contents import Made, a_pack, a_snapshot, an_index
from services.storage.tests.model.world import LONG, World


@dataclass(frozen=True)
class Scene:
    """`used` has an open user, `free` none, `condemned` and `doomed` (being removed) say it; so of the snapshots.

    The backup has an index file after its last pack; `silent` is another one that has stopped beating.
    """

    world: World
    claims: VaultClaims
    used: Made
    free: Made
    condemned: Made
    doomed: Made
    index: Made
    parent: Made  # which `silent` has pinned
    snapshot: Made
    backup: UUID
    silent: UUID
    reader: UUID
    retention: UUID
    is_marked: bool

    def body(self, made: Made) -> Body:
        digest = bytes.fromhex(made.name.id)
        return Body(made.name, digest, len(made.body), frozenset("a"))

    def new_id(self, number: int) -> UUID:
        """Of a session that a call opens, or of a mark."""
        return UUID(int=self.retention.int + 1000 + number)


async def set_up(world: World, *, is_marked: bool) -> Scene:
    """Let sessions that are over leave their traces, and open one of each purpose."""
    claims, db = world.device(), world.db
    await world.begin(1)
    used, free, condemned, doomed = packs = [a_pack(frozenset(blob)) for blob in "ufcd"]
    index = an_index({pack.name: pack.holds for pack in packs})
    parent, snapshot, gone = (a_snapshot(frozenset("u"), salt) for salt in ("parent", "snapshot", "gone"))
    first = await world.open(claims, Purpose.BACKUP)
    for made in (*packs, index, parent, snapshot, gone):
        await world.put(claims, first, made, packs=sorted(made.lists))
    await lifecycle.end(db, claims, first)
    for old in ((doomed.name,), (condemned.name,)):
        pruning = await world.open(claims, Purpose.RETENTION)
        if old == (condemned.name,):
            await retention.remove(db, claims, pruning, gone.name)
        await retention.mark(db, claims, pruning, world.session_id())
        assert await retention.condemn(db, claims, pruning, old) == []
        await lifecycle.end(db, claims, pruning)
        if old == (doomed.name,):
            await world.reapers["a"]._decide()
    silent = await world.open(claims, Purpose.BACKUP, parent.name)
    await lifecycle.reserve(db, claims, silent, [used.name])
    async with db.worker() as unit:
        await unit.execute("update sessions set last_beat = to_timestamp(0) where id = %s", (silent,))
    backup = await world.open(claims, Purpose.BACKUP)
    await lifecycle.reserve(db, claims, backup, [used.name])
    own = an_index({used.name: used.holds})
    await world.put(claims, backup, own, packs=[used.name])
    reader = await world.open(claims, Purpose.READ)
    pruning = await world.open(claims, Purpose.RETENTION)
    if is_marked:
        await retention.mark(db, claims, pruning, world.session_id())
    made_now = (used, free, condemned, doomed, index, parent, snapshot)
    return Scene(world, claims, *made_now, backup, silent, reader, pruning, is_marked)


Act = Callable[[Scene], Awaitable[object]]


def _open(number: int, purpose: Purpose, *, on: bool = False) -> Act:
    return lambda scene: lifecycle.open_session(
        scene.world.db, scene.claims, scene.new_id(number), purpose, scene.snapshot.name if on else None
    )


def _reserve(which: str) -> Act:
    return lambda scene: lifecycle.reserve(scene.world.db, scene.claims, scene.backup, [getattr(scene, which).name])


def _put_again(which: str) -> Act:
    return lambda scene: entries.put_again(
        scene.world.db, scene.claims, scene.backup, getattr(scene, which).name, [scene.used.name]
    )


def _enter(made: Callable[[Scene], Made]) -> Act:
    return lambda scene: entries.enter(scene.world.db, scene.claims, scene.backup, scene.body(made(scene)))


def _remove(which: str) -> Act:
    return lambda scene: retention.remove(scene.world.db, scene.claims, scene.retention, getattr(scene, which).name)


def _condemn(which: str) -> Act:
    return lambda scene: retention.condemn(scene.world.db, scene.claims, scene.retention, [getattr(scene, which).name])


def _end(which: str) -> Act:
    return lambda scene: lifecycle.end(scene.world.db, scene.claims, getattr(scene, which))


async def _list(scene: Scene) -> list[ObjectName]:
    return await scene.world.page(scene.claims, scene.retention, ObjectKind.PACK, None, 100)


ACTS: dict[str, Act] = {
    "a backup opens": _open(1, Purpose.BACKUP, on=True),
    "a restore opens": _open(2, Purpose.READ),
    "an adoption opens": _open(3, Purpose.ADOPT),
    "a retention opens": _open(4, Purpose.RETENTION),
    "the backup ends": _end("backup"),
    "the retention ends": _end("retention"),
    "silent sessions are ended": lambda scene: lifecycle.end_silent(scene.world.db, LONG, LONG),
    "the silent session beats": lambda scene: lifecycle.beat(scene.world.db, scene.claims, scene.silent),
    "reserve of a free pack": _reserve("free"),
    "reserve of a condemned pack": _reserve("condemned"),
    "a free pack is put again": _put_again("free"),
    "a condemned pack is put again": _put_again("condemned"),
    "an index file is put again": _put_again("index"),
    "a pack is entered": _enter(lambda _: a_pack(frozenset("n"))),
    "a pack that is being removed is entered": _enter(lambda scene: scene.doomed),
    "commit": _enter(lambda _: a_snapshot(frozenset("u"), "new")),
    "a snapshot is removed": _remove("snapshot"),
    "a parent is removed": _remove("parent"),
    "mark": lambda scene: retention.mark(scene.world.db, scene.claims, scene.retention, scene.new_id(5)),
    "condemn of a free pack": _condemn("free"),
    "condemn of an index file": _condemn("index"),
    "the retention lists packs": _list,
    "the reaper decides": lambda scene: scene.world.reapers["a"]._decide(),
    "the reaper forgets": lambda scene: scene.world.reapers["a"]._remove_some(scene.claims.bucket),
    "the reaper sweeps": lambda scene: scene.world.reapers["a"]._sweep(),
}
