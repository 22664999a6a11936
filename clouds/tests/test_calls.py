"""Calls of a store that stands still: what they hold up, and how they end."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest

from clouds.calls import Calls, Clock, Patience
from clouds.failures import Failure, Trouble
from clouds.testing.clock import a_jumping_clock

_LARGE = 8 << 20


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = Calls(Patience(), 1, small_at_once=1)
    yield calls
    calls.close()


async def _stands_still() -> int:
    await asyncio.Event().wait()
    return 0


async def _answers() -> int:
    return 1


def test_a_small_call_does_not_wait_behind_a_large_one(calls: Calls) -> None:
    stuck = calls.begin(_stands_still, _LARGE)
    assert calls.begin(_answers, 1 << 20).result(60) == 1
    assert not stuck.done()
    behind = calls.begin(_answers, _LARGE)
    assert not behind.done()
    stuck.cancel()
    assert behind.result(60) == 1


def test_whoever_waits_for_a_call_is_told_when_it_is_closed(calls: Calls) -> None:
    stuck = [calls.begin(_stands_still, _LARGE) for _ in range(3)]
    calls.close()
    for call in (*stuck, calls.begin(_answers)):
        with pytest.raises(Failure, match="closed"):
            call.result(60)


class Brought:
    """What a call is answered with."""


def test_what_was_answered_is_let_go_of_without_a_look_for_garbage_in_cycles() -> None:
    async def bring() -> Brought:
        return Brought()

    calls = Calls(Patience())
    gc.disable()
    try:
        brought = weakref.ref(calls.begin(bring).result(60))
        calls.close()  # its thread may be about to let go
        assert brought() is None
    finally:
        gc.enable()


class Store:
    """One that fails as it is told, else answers; it notes when it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.trouble: Trouble | None = None
        self.asked: list[float] = []

    async def __call__(self) -> int:
        self.asked.append(self.clock.monotonic())
        if self.trouble is not None:
            raise Failure(self.trouble, "no")
        return 1

    def take(self, calls: Calls) -> float:
        """The seconds within which one call is given up."""
        self.asked.clear()
        with pytest.raises(Failure):
            calls.begin(self).result(60)
        return self.asked[-1] - self.asked[0]


@pytest.fixture
def store() -> Store:
    return Store(a_jumping_clock())


@pytest.fixture
def hasty(store: Store) -> Iterator[Calls]:
    calls = Calls(Patience(), clock=store.clock)
    yield calls
    calls.close()


def test_the_waits_between_attempts_grow_are_random_and_end(store: Store, hasty: Calls) -> None:
    store.trouble = Trouble.BUSY
    assert 150 < store.take(hasty) <= 180
    waits = [later - earlier for earlier, later in pairwise(store.asked)]
    for number, wait in enumerate(waits):
        utmost = min(0.5 * 2**number, 30)
        assert utmost / 2 <= wait <= utmost
    assert len({wait / min(0.5 * 2**number, 30) for number, wait in enumerate(waits)}) > 1


def test_a_store_that_was_given_up_is_waited_for_shortly_until_it_answers_again(store: Store, hasty: Calls) -> None:
    store.trouble = Trouble.BUSY
    store.take(hasty)
    assert store.take(hasty) <= 8
    assert store.take(hasty) <= 8
    store.trouble = None
    assert hasty.begin(store).result(60) == 1
    store.trouble = Trouble.UNREACHED
    assert store.take(hasty) > 150


def test_who_waits_is_told_once_that_a_store_does_not_answer_and_once_that_it_does(store: Store) -> None:
    told: list[str] = []
    calls = Calls(Patience(), clock=store.clock, waiting=lambda failure: told.append(str(failure)))
    try:
        assert calls.begin(store).result(60) == 1
        for trouble in (Trouble.UNREACHED, Trouble.BUSY):
            store.trouble = trouble
            store.take(calls)
            store.take(calls)
            assert told == ["no"]
            store.trouble = None
            assert calls.begin(store).result(60) == 1
            assert told == ["no", "None"]
            told.clear()
    finally:
        calls.close()


def test_a_moment_and_a_store_that_never_answered_are_not_told(store: Store) -> None:
    told: list[Failure | None] = []
    calls = Calls(Patience(), clock=store.clock, waiting=told.append)
    try:
        store.trouble = Trouble.UNREACHED
        store.take(calls)
        store.trouble = None
        assert calls.begin(store).result(60) == 1
        slow = Calls(Patience(total=4), clock=store.clock, waiting=told.append)
        assert slow.begin(store).result(60) == 1
        store.trouble = Trouble.BUSY
        store.take(slow)
        slow.close()
        assert told == []
    finally:
        calls.close()


def test_a_long_call_that_fails_once_is_no_silence_nor_is_one_that_fails_while_others_are_answered(
    store: Store,
) -> None:
    told: list[Failure | None] = []
    calls = Calls(Patience(), clock=store.clock, waiting=told.append)
    failures = 0

    async def long() -> int:
        nonlocal failures
        await store.clock.sleep(10)
        if failures:
            failures -= 1
            raise Failure(Trouble.UNREACHED, "the connection broke")
        return 1

    async def beside() -> int:
        assert await asyncio.wrap_future(calls.begin(store)) == 1
        raise Failure(Trouble.BUSY, "no")

    try:
        assert calls.begin(store).result(60) == 1
        for _ in range(3):
            failures = 1
            assert calls.begin(long).result(60) == 1
        failures = 2
        assert calls.begin(long).result(60) == 1
        assert [str(failure) for failure in told] == ["the connection broke", "None"]
        told.clear()
        with pytest.raises(Failure):
            calls.begin(beside).result(60)
        assert told == []
    finally:
        calls.close()


def test_a_store_that_never_answered_is_given_up_soon(store: Store, hasty: Calls) -> None:
    store.trouble = Trouble.UNREACHED
    assert store.take(hasty) <= 8


def test_what_a_store_does_not_show_yet_is_waited_for_and_the_store_is_not_given_up(store: Store, hasty: Calls) -> None:
    store.trouble = Trouble.BEHIND
    assert store.take(hasty) == pytest.approx(20)
    store.trouble = Trouble.BUSY
    assert store.take(hasty) > 150


@pytest.mark.parametrize("busy", [100, 340])
def test_what_a_store_does_not_show_is_waited_for_from_then_on_and_not_longer_than_a_call_may_last(
    store: Store, hasty: Calls, busy: float
) -> None:
    began = store.clock.monotonic()
    behind: list[float] = []

    async def shown() -> int:
        store.asked.append(store.clock.monotonic())
        if len(store.asked) < 3:
            await store.clock.sleep(busy / 2)
            raise Failure(Trouble.BUSY, "no")
        behind.append(store.clock.monotonic())
        raise Failure(Trouble.BEHIND, "no")

    with pytest.raises(Failure):
        hasty.begin(shown).result(60)
    assert behind[0] - began >= busy
    assert behind[-1] - behind[0] == pytest.approx(min(20, busy / 2 + 180 - behind[0]))


@pytest.mark.parametrize("trouble", [Trouble.MISSING, Trouble.EXISTS, Trouble.SHORT, Trouble.CUT])
def test_a_store_that_says_what_it_lacks_has_answered(store: Store, hasty: Calls, trouble: Trouble) -> None:
    store.trouble = Trouble.BUSY
    store.take(hasty)
    store.trouble = trouble
    store.take(hasty)
    store.trouble = Trouble.BUSY
    assert store.take(hasty) > 150


@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.MISSING, Trouble.FULL, Trouble.EXISTS])
def test_what_does_not_pass_is_asked_for_once(store: Store, hasty: Calls, trouble: Trouble) -> None:
    store.trouble = trouble
    assert store.take(hasty) == 0
    assert len(store.asked) == 1


def test_what_fails_when_nobody_waits_for_it_any_more_is_not_told_of(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    async def leaves_a_part() -> int:
        asyncio.get_running_loop().create_future().set_exception(OSError("lost"))
        return 1

    assert calls.begin(leaves_a_part).result(60) == 1
    stuck = calls.begin(_stands_still)

    async def give_up() -> None:
        stuck.cancel()
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - what ends them is under way
            await asyncio.sleep(0)

    calls.close(give_up)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
