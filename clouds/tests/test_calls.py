"""Calls of a store that stands still: what they hold up, and how they end."""

import asyncio
from collections.abc import Iterator

import pytest

from clouds.calls import Calls, Patience
from clouds.failures import Failure

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
