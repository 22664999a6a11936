"""Buckets change their homes: away from nodes that are drained or have no room, to as many as they are to have copies.

Kept true:
- a bucket gets another home first, and an old one leaves when all that the bucket has lies on `copies` other homes;
- that is decided in one transaction under the bucket's lock, which every put, removal and change of homes takes; the
  other homes live, have compared their disks since they were started, and once more since the old one was ready to go;
- a step that is interrupted is taken again: all that is known lies in the catalogue, and any node takes the next one;
- no home leaves while files are adopted: those that are not in yet lie there alone;
- no bucket moves while a node of an earlier version runs: it would enter puts by the homes of a moment ago.
docs/decisions/placement.md argues why no object that was acknowledged is ever without its copies.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from uuid import UUID

import structlog

from services.common.database import Database, Unit
from services.storage.store import buckets, homes, nodes
from services.storage.store.buckets import BucketState
from services.storage.store.homes import HomeState

# Buckets that are copied to new homes at a time, so that the first ones are done soon.
_AT_ONCE = 4
_PAGE = 1000
# Somebody else may have filled a disk for a moment.
OUTGROWN_ROUNDS = 12
_FIRST = UUID(int=0)
NO_ROOM = "no other node has room for it"
# The files that are out lie on a home alone, and go with it.
ADOPTING = "files that were copied by hand are not all in: repeat `oort bucket adopt` until it ends with 0"


class Placement:
    """The part of one node: it decides for any bucket, and compares its own disks."""

    def __init__(
        self,
        node: str,
        db: Database,
        *,
        compare: Callable[[UUID], Awaitable[int | None]],
        waits_for_entry: Callable[[UUID], Awaitable[bool]],
        silent_seconds: float,
        fills: bool,
    ) -> None:
        """`compare` enters what of a bucket the disks lack; answers how much, None if that cannot be said.

        `waits_for_entry`: whether files lie there that nobody has entered: a node that gives a bucket away by itself
        would remove them. `fills`: what the node says that it can take is what it can take, so that a bucket may
        outgrow it.
        """
        self._node = node
        self._db = db
        self._compare = compare
        self._waits_for_entry = waits_for_entry
        self._silent_seconds = silent_seconds
        self._fills = fills
        self._outgrown: dict[UUID, int] = {}  # buckets that outgrow this node, and for how many rounds now
        self._outgrown_before: dict[UUID, int] = {}
        self._waiting_from = _FIRST
        self._log = structlog.get_logger("storage")

    async def place(self) -> None:
        """One round. Raises Unavailable when the database is away."""
        async with self._db.worker() as unit:
            await nodes.date_going(unit, self._silent_seconds)
            if await nodes.outdated(unit, self._silent_seconds):
                return
            joining = await homes.joining(unit)
        self._outgrown_before, self._outgrown = self._outgrown, {}
        await self._compare_for_others()
        for bucket in joining:
            await enter_all(self._db, bucket)
        started = [bucket async for bucket in self._started()]
        async with self._db.worker() as unit:
            waiting = await homes.unsettled(unit, (homes.WAITING, self._waiting_from), _PAGE)
            # Before any bucket is locked, since it takes long where much is missing.
            rooms = await homes.rooms(unit, self._silent_seconds) if started or waiting else {}
        copying = 0
        for bucket in started:
            copying += await self._settle(bucket, rooms, may_begin=copying < _AT_ONCE)
        await self._begin(waiting, rooms, copying)

    async def _started(self) -> AsyncIterator[UUID]:
        """Buckets that have lost a home, and those that have the homes that they are to have."""
        after = (homes.SHORT, _FIRST)
        more = True
        while more:
            async with self._db.worker() as unit:
                page = await homes.unsettled(unit, after, _PAGE)
            for turn, bucket in page:
                if turn == homes.WAITING:
                    return
                yield bucket
            more = len(page) == _PAGE
            after = page[-1] if page else after

    async def _begin(self, waiting: Sequence[tuple[int, UUID]], rooms: dict[str, int], copying: int) -> None:
        """Look at buckets that have still to get a home, as long as few are copied. The next round goes on."""
        for _, bucket in waiting:
            if copying >= _AT_ONCE:
                return
            copying += await self._settle(bucket, rooms, may_begin=True)
            self._waiting_from = bucket
        if len(waiting) < _PAGE:
            self._waiting_from = _FIRST

    async def _compare_for_others(self) -> None:
        """Look at the disks here once more before another home of a bucket leaves."""
        async with self._db.worker() as unit:
            asked = await homes.to_compare(unit, self._node)
        for bucket, mark in asked:
            if await self._compare(bucket) == 0:
                async with self._db.worker() as unit:
                    await homes.compared(unit, bucket, self._node, mark)

    async def _settle(self, bucket: UUID, rooms: dict[str, int], *, may_begin: bool) -> bool:
        """Take the next step of a bucket. Answers whether it is being copied to a new home."""
        is_turn = self._outgrown_before.get(bucket, 0) % OUTGROWN_ROUNDS == OUTGROWN_ROUNDS - 1
        waits_for_entry = is_turn and await self._waits_for_entry(bucket)  # before the row is locked: it takes long
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            if state is None:
                return False
            found = await homes.states(unit, bucket, self._silent_seconds)
            staying = [home for home in found if home.state == "serving" and home.fits]
            is_short = len(staying) < state.copies
            # A home that is lost is replaced at once; one that is drained serves until its turn comes.
            is_urgent = len(found) < state.copies
            outgrown = [] if waits_for_entry else self._to_replace(found, state)
            spare = 0 if is_short else _spare(state, outgrown)
            joined = (
                await join(unit, state, {home.node_id for home in found}, rooms, spare=spare)
                if (is_short or outgrown) and (may_begin or is_urgent)
                else None
            )
            if is_short:
                await self._keep(unit, bucket, found)
            if is_short and joined is None:
                await self._wait(unit, bucket, found, NO_ROOM if may_begin else nodes.TURN)
            elif joined is None:
                await self._let_go(unit, state, found)
        if joined is not None:
            await enter_all(self._db, bucket)
        return joined is not None or (not is_short and any(home.can_fetch for home in staying))

    def _to_replace(self, found: Sequence[HomeState], state: BucketState) -> list[HomeState]:
        """This node's home, if the bucket has outgrown it for as many rounds again, and all homes are up and serve.

        Not while files are adopted.
        """
        is_settled = len(found) == state.copies and all(home.state == "serving" and home.live for home in found)
        own = [home for home in found if home.outgrown and home.node_id == self._node]
        if not (self._fills and is_settled and own) or state.adopting:
            return []
        self._outgrown[state.id] = self._outgrown_before.get(state.id, 0) + 1
        return own if self._outgrown[state.id] % OUTGROWN_ROUNDS == 0 else []

    async def _let_go(self, unit: Unit, state: BucketState, found: Sequence[HomeState]) -> None:
        going = going_of(found, state.copies)
        await self._keep(unit, state.id, [home for home in found if home not in going])
        await self._wait(unit, state.id, [home for home in found if home not in going], "")
        for home in going:
            others = [other for other in found if other is not home and other.state == "serving"]
            why = ADOPTING if state.adopting else why_not(home, found, state.copies)
            if why:
                await self._keep(unit, state.id, [home])
            elif home.leaving is None:
                await homes.say_leaving(unit, state.id, home.node_id, leaving=True)
                why = "the other nodes compare their disks"
            elif sum(_has_compared(other, home) for other in others) < state.copies:
                why = "the other nodes compare their disks"
            else:
                await homes.leave(unit, state.id, home.node_id)
                self._log.info("a home leaves a bucket", bucket=str(state.id), home=home.node_id)
                return  # one at a time: the next one is judged by what is there then
            await self._wait(unit, state.id, [home], why)

    async def _keep(self, unit: Unit, bucket: UUID, staying: Sequence[HomeState]) -> None:
        """They do not leave now: what others compare for them begins anew."""
        for home in staying:
            if home.leaving is not None:
                await homes.say_leaving(unit, bucket, home.node_id, leaving=False)

    async def _wait(self, unit: Unit, bucket: UUID, waiting: Sequence[HomeState], why: str) -> None:
        for home in waiting:
            told = why if home.state != "serving" else ""
            if home.waits != told:
                await homes.say_waits(unit, bucket, home.node_id, told)


def _spare(state: BucketState, outgrown: Sequence[HomeState]) -> int:
    """Room that another home is to keep when it has all: more than there is now, or the bucket would move back."""
    return max([state.bytes // 16, *(home.free_bytes for home in outgrown)])


async def join(
    unit: Unit, state: BucketState, found: Collection[str], rooms: dict[str, int], *, spare: int = 0
) -> str | None:
    """Give a bucket, whose row is locked and which has the homes `found`, another one: the node with the most room.

    That is taken from `rooms`. None if no node has as much, and the bytes to `spare`.
    """
    for node in sorted(rooms, key=lambda node: (-rooms[node], node)):
        if node not in found and rooms[node] > state.bytes + spare and await homes.join(unit, state.id, node):
            rooms[node] -= state.bytes
            structlog.get_logger("storage").info("a bucket gets another home", bucket=str(state.id), home=node)
            return node
    return None


async def enter_all(db: Database, bucket: UUID) -> None:
    """Enter what a home lacks that has joined, in pages, between which puts take their turn.

    A bucket at which another node is goes on there: puts wait for one page, however many nodes there are.
    """
    more = True
    while more:
        async with db.worker() as unit:
            more = await homes.may_enter(unit, bucket)
            if more:
                await buckets.lock(unit, bucket)
                more = await homes.enter_page(unit, bucket)


def going_of(found: Sequence[HomeState], copies: int) -> list[HomeState]:
    """The homes that are to go: those on nodes that are drained, else the least useful one of too many."""
    drained = [home for home in found if home.state != "serving"]
    if drained or len(found) <= copies:
        return drained
    all_well = all(home.live and home.fits for home in found)
    return [max(found, key=lambda home: _uselessness(home, all_well=all_well))]


def _uselessness(home: HomeState, *, all_well: bool) -> tuple[bool, bool, bool, bool, bool, int]:
    """Greatest for the home that is missed least; the same at every look, while nothing changes."""
    return (
        home.outgrown and not home.lacks and all_well,  # else one that cannot take its place is to go
        home.lacks,
        not home.live,
        not home.fits,
        home.leaving is not None,
        -home.free_bytes,
    )


def why_not(home: HomeState, found: Sequence[HomeState], copies: int) -> str:
    """Why the bucket, which has the homes `found`, cannot do without one of them yet; empty if it can."""
    others = [other for other in found if other is not home and other.state == "serving"]
    whole = [other for other in others if not other.lacks]
    sure = [other for other in whole if other.live and other.reconciled]
    if home.removes:
        return "it has removed objects to delete first"
    if len(sure) >= copies:
        return ""
    if len(whole) >= copies and all(other.live for other in others):
        return "other nodes have not compared their disks since they were started"
    return _why_lacking(found, others)


def _why_lacking(found: Sequence[HomeState], others: Sequence[HomeState]) -> str:
    """Why some of the homes `found`, the `others`, do not hold all."""
    down = [other.node_id for other in others if not other.live]
    if not down and not any(other.lacks_whole for other in others):
        return "it has objects that are whole nowhere: they wait for a backup that stores them again"
    if not down and any(other.can_fetch for other in others):
        return "copies are made on other nodes"
    return f"{', '.join(down or [home.node_id for home in found if not home.live])} is down"


def is_spared(node: str, found: Sequence[HomeState], copies: int) -> bool:
    """Whether a node is no home, and as many as there are to be hold all that the bucket has."""
    sure = [home for home in found if home.live and home.reconciled and not home.lacks]
    return len(sure) >= copies and all(home.node_id != node for home in found)


def _has_compared(other: HomeState, home: HomeState) -> bool:
    """Whether it counts, and has looked at its disk since `home` was ready to go."""
    is_sure = other.live and other.reconciled and not other.lacks
    return is_sure and home.leaving is not None and other.compared == home.leaving
