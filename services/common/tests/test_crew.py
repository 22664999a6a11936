"""How the first process of an instance keeps the others (crew.py); what they run here is a line of Python."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common import crew as module
from services.common.crew import Crew, tick
from services.common.testing.clock import ManualClock
from services.common.worker import Worker

_ROOT = Path(__file__).parents[3]
_PATIENCE_SECONDS = 120.0
AGAIN = "a worker is started again"
HANG_SECONDS = 130.0  # a look to see it tick, and 24 more
# A worker whose event loop has run, and then stands still.
STANDS_STILL = """
import os, signal, time
from services.common.worker import started_as
me = started_as(os.environ)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
me.ticks[me.number] += 1
time.sleep(600)
"""


@asynccontextmanager
async def keeping(clock: ManualClock, program: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crew]:
    """The first of two processes, which keeps the second one."""
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", program])
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    monkeypatch.chdir(_ROOT)
    crew = Crew(2, {}, clock, CollectorRegistry())
    kept = asyncio.ensure_future(crew.keep([]))
    try:
        yield crew
    finally:
        await crew.drain(0)
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)
        crew.close()


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def running(crew: Crew) -> list[int]:
    return [process.pid for process, _ in crew._running.values()]


async def test_a_worker_that_stands_still_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    with capture_logs() as told:
        async with keeping(clock, STANDS_STILL, monkeypatch) as crew:
            await until(lambda: crew.first.ticks[1] and running(crew))
            crew.first.counts[1] = 3  # streams that it has, and locks with them
            (hung,) = running(crew)
            await clock.advance(HANG_SECONDS)
            await until(lambda: any(line["event"] == AGAIN for line in told))
            assert list(crew.first.counts) == [0, 0]
            await clock.advance(1)
            await until(lambda: crew.first.ticks[1] and running(crew))
            assert running(crew) != [hung]
    assert [line["event"] for line in told[:2]] == ["a worker does not go on, and is killed", AGAIN]
    assert told[1]["cause"] == "it ended with -9"


async def test_a_worker_that_goes_on_or_has_not_begun_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with keeping(clock, "import time; time.sleep(600)", monkeypatch) as crew:
        await until(lambda: running(crew))
        (pid,) = running(crew)
        await clock.advance(HANG_SECONDS)
        with capture_logs() as told:
            for _ in range(100):
                crew.first.ticks[1] += 1
                await clock.advance(100)
        assert told == []
        assert running(crew) == [pid]
        os.kill(pid, 0)


async def test_the_pause_before_a_worker_is_started_again_grows_until_one_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    with capture_logs() as told:
        async with keeping(clock, "raise SystemExit(7)", monkeypatch):
            for times, pause in enumerate([1, 2, 4, 8, 16, 32, 60, 60], 1):
                await until(lambda times=times: len(told) == times)  # type: ignore[misc] # mypy infers no default
                assert (told[-1]["event"], told[-1]["cause"]) == (AGAIN, "it ended with 7")
                assert told[-1]["seconds"] == pause
                await clock.advance(pause)
    with capture_logs() as told:
        async with keeping(clock, "import time; time.sleep(600)", monkeypatch) as crew:
            for times, (lasts, pause) in enumerate([(0, 1), (0, 2), (61, 1)], 1):
                await until(lambda: running(crew))
                await clock.advance(lasts)
                os.kill(running(crew)[0], 9)
                await until(lambda times=times: len(told) == times)  # type: ignore[misc] # mypy infers no default
                assert told[-1]["seconds"] == pause
                await clock.advance(pause)


async def test_a_program_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = ManualClock()
    python = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with capture_logs() as told:
        async with keeping(clock, STANDS_STILL, monkeypatch) as crew:
            await until(lambda: told)
            assert told[0]["cause"] == "it could not be started: No such file or directory"
            monkeypatch.setattr(sys, "executable", python)
            await clock.advance(1)
            await until(lambda: crew.first.ticks[1])


async def test_a_worker_that_does_not_end_when_it_is_told_to_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as told:
        async with keeping(ManualClock(), STANDS_STILL, monkeypatch) as crew:
            await until(lambda: crew.first.ticks[1] and running(crew))
            (ending,) = running(crew)
            await crew.drain(0)
            await until(lambda: not running(crew))
            with pytest.raises(ProcessLookupError):
                os.kill(ending, 0)
    assert [line["event"] for line in told] == ["workers did not end in time, and are killed"]


async def test_a_process_ticks_as_long_as_its_event_loop_goes_on() -> None:
    clock, worker = ManualClock(), Worker()
    ticking = asyncio.ensure_future(tick(worker, clock))
    await clock.advance(10)
    assert worker.ticks[0] == 11
    ticking.cancel()
