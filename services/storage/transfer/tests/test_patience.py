"""A body that has come waits for its entry: not for ever, not at a node that ends, and not at the others' expense."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from services.common.errors import Busy, Unavailable
from services.common.testing.clock import ManualClock
from services.storage.errors import BucketBusy
from services.storage.transfer.patience import Patience

TENANT = uuid4()
_LOCK_SECONDS, _CONNECTION_SECONDS = 5, 10
_LOCKS_WITH_QUOTAS = 5  # the bucket's row, then the tenant's and the group's quota, with others and alone


def a_patience(clock: ManualClock, draining: asyncio.Event | None = None, connections: int = 8) -> Patience:
    return Patience(clock, draining or asyncio.Event(), connections)


async def holding_a_turn(patience: Patience, over: asyncio.Event) -> "asyncio.Task[str]":
    """An entry whose try has begun, and ends when `over` is set."""
    begun = asyncio.Event()

    async def hold() -> str:
        begun.set()
        await over.wait()
        return "entered"

    holding = asyncio.create_task(patience.enter(TENANT, hold))
    await begun.wait()
    return holding


async def until_done(clock: ManualClock, entering: "asyncio.Future[str]") -> None:
    while not entering.done():
        await clock.advance(1)


@pytest.mark.parametrize(
    ("seconds", "most"),
    [
        (0, 40),
        (_LOCK_SECONDS, 40),
        (_LOCK_SECONDS + _CONNECTION_SECONDS, 40),
        (_LOCK_SECONDS * _LOCKS_WITH_QUOTAS + _CONNECTION_SECONDS, 60),
    ],
)
async def test_an_entry_that_is_always_kept_waiting_is_given_up_in_time(seconds: float, most: float) -> None:
    clock = ManualClock()
    began: list[float] = []

    async def busy() -> str:
        began.append(clock.monotonic())
        await clock.sleep(seconds)
        raise BucketBusy

    entering = asyncio.ensure_future(a_patience(clock).enter(TENANT, busy))
    await until_done(clock, entering)
    assert isinstance(entering.exception(), BucketBusy)
    assert began[-1] + seconds <= most


async def test_a_bucket_that_becomes_free_is_entered() -> None:
    clock = ManualClock()
    answers: list[Exception | str] = [BucketBusy(), Busy(what="The database"), "entered"]
    entering = asyncio.ensure_future(a_patience(clock).enter(TENANT, answering(answers)))
    await until_done(clock, entering)
    assert entering.result() == "entered"


async def test_what_may_have_been_entered_is_not_tried_again() -> None:
    with pytest.raises(Unavailable) as told:
        await a_patience(ManualClock()).enter(TENANT, answering([Unavailable(what="The database"), "entered"]))
    assert not isinstance(told.value, Busy)


async def test_a_node_that_ends_tries_once() -> None:
    draining = asyncio.Event()
    draining.set()
    answers: list[Exception | str] = [BucketBusy(), "entered"]
    with pytest.raises(BucketBusy):
        await a_patience(ManualClock(), draining).enter(TENANT, answering(answers))
    assert answers == ["entered"]


async def test_what_was_refused_once_is_given_up_when_the_node_begins_to_end() -> None:
    """From the queue for its second turn, and from its pause between two tries."""
    clock, draining, over = ManualClock(), asyncio.Event(), asyncio.Event()
    patience = a_patience(clock, draining, connections=2)
    tries: list[list[Exception | str]] = [[BucketBusy(), "entered"], [BucketBusy(), "entered"]]
    queueing = asyncio.ensure_future(patience.enter(TENANT, answering(tries[0])))
    await clock.advance(0.5)
    holding = await holding_a_turn(patience, over)
    pausing = asyncio.ensure_future(patience.enter(uuid4(), answering(tries[1])))
    await clock.advance(0.5)
    assert clock.sleepers == 1
    draining.set()
    for refused in (queueing, pausing):
        with pytest.raises(BucketBusy):
            await refused
    assert tries == [["entered"], ["entered"]]
    over.set()
    assert await holding == "entered"


async def test_what_was_not_tried_yet_is_tried_once_when_the_node_begins_to_end() -> None:
    draining, over = asyncio.Event(), asyncio.Event()
    patience = a_patience(ManualClock(), draining, connections=2)
    holding = await holding_a_turn(patience, over)
    queueing = asyncio.ensure_future(patience.enter(TENANT, answering(["entered"])))
    busy = asyncio.ensure_future(patience.enter(TENANT, answering([BucketBusy()])))
    draining.set()
    assert await queueing == "entered"
    with pytest.raises(BucketBusy):
        await busy
    over.set()
    assert await holding == "entered"


async def test_entries_of_a_locked_bucket_leave_turns_to_the_tenants_other_buckets() -> None:
    patience, full, free = a_patience(ManualClock()), asyncio.Event(), asyncio.Event()
    locked, under_way = uuid4(), 0

    async def hold() -> str:
        nonlocal under_way
        under_way += 1
        if under_way == 2:
            full.set()
        await free.wait()
        return "entered"

    many = [asyncio.ensure_future(patience.enter(TENANT, hold, locked)) for _ in range(20)]
    await full.wait()
    assert await patience.enter(TENANT, answering(["entered"]), uuid4()) == "entered"
    assert under_way == 2
    free.set()
    assert await asyncio.gather(*many) == ["entered"] * 20


async def test_entries_of_one_tenant_leave_connections_to_the_others() -> None:
    patience, full, free = a_patience(ManualClock(), connections=6), asyncio.Event(), asyncio.Event()
    under_way, most = 0, 0

    async def hold() -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        await free.wait()
        under_way -= 1
        return "entered"

    many = [asyncio.ensure_future(patience.enter(TENANT, hold)) for _ in range(20)]
    await full.wait()
    assert await patience.enter(uuid4(), answering(["entered"])) == "entered"
    free.set()
    assert await asyncio.gather(*many) == ["entered"] * 20
    assert most == 3


@pytest.mark.parametrize(("bucket", "at_once", "told"), [(None, 1, Busy), (uuid4(), 2, BucketBusy)])
async def test_an_entry_whose_turn_does_not_come_is_told_so(
    monkeypatch: pytest.MonkeyPatch, bucket: UUID | None, at_once: int, told: type[Busy]
) -> None:
    monkeypatch.setattr("services.storage.transfer.patience._LAST_TRY_SECONDS", 0.05)
    patience, never = a_patience(ManualClock(), connections=8 if bucket else 1), asyncio.Event()

    async def stand_still() -> str:
        await never.wait()
        return "entered"

    first = [asyncio.ensure_future(patience.enter(TENANT, stand_still, bucket)) for _ in range(at_once)]
    await asyncio.sleep(0)
    with pytest.raises(told):
        await patience.enter(TENANT, answering(["entered"]), bucket)
    never.set()
    assert await asyncio.gather(*first) == ["entered"] * at_once
    assert await patience.enter(TENANT, answering(["entered"]), bucket) == "entered"


def answering(answers: list[Exception | str]) -> Callable[[], Awaitable[str]]:
    async def enter() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return enter
