"""How often auth is asked about a URL, also while it answers late or not at all."""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import pytest
from oort.auth.v1 import rest_pb2

from domain.sessions import Scope
from domain.tokens import VaultClaims
from services.common.errors import NotSignedIn, Unavailable
from services.common.testing.clock import ManualClock
from services.storage.access.tests.test_gate import OpenGate
from services.storage.rest import access as rest_access
from services.storage.rest.access import Access, Credentials


class LateAuth:
    """A channel to an auth that answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False
        self.refuses = False
        self.may_answer = asyncio.Event()

    def unary_unary(self, *_args: Any, **_named: Any) -> Any:
        return self._exchange

    async def _exchange(self, _request: rest_pb2.ExchangeRequest, **_named: Any) -> rest_pb2.ExchangeResponse:
        self.asked += 1
        await self.may_answer.wait()
        if self.is_down or self.refuses:
            metadata = grpc.aio.Metadata()
            code = grpc.StatusCode.UNAUTHENTICATED if self.refuses else grpc.StatusCode.DEADLINE_EXCEEDED
            raise grpc.aio.AioRpcError(code, metadata, metadata)
        return rest_pb2.ExchangeResponse(token="token")


def an_access() -> tuple[Access, LateAuth, ManualClock]:
    auth, gate, clock = LateAuth(), OpenGate(), ManualClock()
    gate.claims = VaultClaims(uuid4(), uuid4(), uuid4(), uuid4(), "main", frozenset(Scope), 0, b"")
    return Access(auth, gate, clock), auth, clock  # type: ignore[arg-type] # of a channel it has what is asked


async def test_requests_of_one_url_wait_for_one_answer_and_one_that_is_given_up_ends_no_other() -> None:
    access, auth, _clock = an_access()
    shown = Credentials("u", "p")
    requests = [asyncio.create_task(access.claims(shown)) for _ in range(5)]
    await asyncio.sleep(0)
    requests[0].cancel()
    await asyncio.sleep(0)
    auth.may_answer.set()
    found = await asyncio.gather(*requests[1:])
    assert (len(set(found)), auth.asked) == (1, 1)


async def test_while_auth_is_out_of_reach_it_is_asked_every_quarter_of_a_minute_and_who_is_known_goes_on() -> None:
    access, auth, clock = an_access()
    auth.may_answer.set()
    shown, another = Credentials("u", "p"), Credentials("u", "another")
    known = await access.claims(shown)
    auth.is_down = True
    clock.jump(61)
    for _ in range(3):
        assert await access.claims(shown) == known
    assert auth.asked == 2
    clock.jump(16)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await access.claims(another)
    assert auth.asked == 3
    assert await access.claims(shown) == known
    auth.is_down = False
    clock.jump(16)
    await access.claims(shown)
    clock.jump(50)
    await access.claims(shown)
    assert auth.asked == 4


async def test_an_auth_that_hangs_holds_up_nobody_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_access, "_PATIENCE_SECONDS", 0)
    access, auth, clock = an_access()
    auth.may_answer.set()
    shown = Credentials("u", "p")
    known = await access.claims(shown)
    auth.may_answer.clear()
    clock.jump(61)
    for _ in range(3):
        assert await access.claims(shown) == known
    assert auth.asked == 2
    # What it says in the end counts.
    auth.refuses = True
    auth.may_answer.set()
    await asyncio.sleep(0)
    clock.jump(16)
    with pytest.raises(NotSignedIn):
        await access.claims(shown)


async def test_who_was_refused_is_asked_about_again_after_some_seconds() -> None:
    access, auth, clock = an_access()
    auth.may_answer.set()
    auth.refuses = True
    shown = Credentials("u", "p")
    for _ in range(3):
        with pytest.raises(NotSignedIn):
            await access.claims(shown)
    assert auth.asked == 1
    auth.refuses = False
    clock.jump(6)
    await access.claims(shown)


def test_a_password_is_in_no_trace() -> None:
    assert "hidden" not in repr(Credentials("u", "hidden"))
