import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field

import grpc
import pytest

from services.common.rpc import call
from services.common.testing.clock import ManualClock


def refusal(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


@dataclass
class Method:
    """A unary method that fails with the given codes and then answers its request."""

    failures: list[grpc.StatusCode]
    timeouts: list[float | None] = field(default_factory=list)

    def __call__(self, request: str, *, timeout: float | None = None) -> Awaitable[str]:
        self.timeouts.append(timeout)
        return self._answer(request)

    async def _answer(self, request: str) -> str:
        if self.failures:
            raise refusal(self.failures.pop(0))
        return request


GONE, FULL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_may_be_repeated_is_tried_again_within_one_deadline() -> None:
    clock, method = ManualClock(), Method([GONE, GONE])
    calling = asyncio.create_task(call(method, "x", seconds=10, attempts=5, clock=clock, chance=random.Random(1)))
    await clock.advance(1)
    assert await calling == "x"
    assert len(method.timeouts) == 3
    assert method.timeouts[0] == 10
    assert method.timeouts == sorted((given or 0 for given in method.timeouts), reverse=True)


async def test_by_default_nothing_is_repeated() -> None:
    method = Method([GONE])
    with pytest.raises(grpc.aio.AioRpcError):
        await call(method, "x", seconds=10, clock=ManualClock())
    assert len(method.timeouts) == 1


async def test_a_refusal_is_not_repeated_and_attempts_end() -> None:
    for failures, tried in (([FULL], 1), ([GONE] * 9, 3)):
        clock, method = ManualClock(), Method(failures)
        calling = asyncio.create_task(call(method, "x", seconds=60, attempts=3, clock=clock))
        await clock.advance(20)
        with pytest.raises(grpc.aio.AioRpcError):
            await calling
        assert len(method.timeouts) == tried


async def test_no_attempt_begins_after_the_deadline() -> None:
    clock, method = ManualClock(), Method([GONE] * 99)
    calling = asyncio.create_task(call(method, "x", seconds=1, attempts=99, clock=clock))
    await clock.advance(1)
    with pytest.raises(grpc.aio.AioRpcError):
        await calling
    assert clock.monotonic() <= 1
