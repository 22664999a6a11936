"""Who a restic is: the user name and password of its URL, which auth turns into a vault token.

Kept true: nobody gets further than with a vault token that the node has checked as every other one (gate.py); what auth
has revoked is good here for a minute at most, or until the token ends while auth does not answer; an auth that does not
answer costs who is known a second at most, and everybody else one answer to that effect.
"""

import asyncio
import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TypeVar
from uuid import UUID

import grpc
from oort.auth.v1 import rest_pb2, rest_pb2_grpc

from domain.tokens import VaultClaims
from services.common.clock import Clock
from services.common.errors import NotSignedIn, Unavailable
from services.storage.access.gate import Gate
from services.storage.errors import BadToken, ExpiredToken

_ASK_SECONDS = 5.0
_PATIENCE_SECONDS = 1.0  # for which who is known waits for what auth says now
_FRESH_SECONDS = 60.0
OUTAGE_SECONDS = 15.0  # for which auth is not asked again after it did not answer
_REFUSED_SECONDS = 5.0
_KNOWN = 1024
_AT_ONCE = 8  # that auth is asked
_LONGEST = 512

Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a URL says before its host."""

    username: str
    password: str = field(repr=False)

    @property
    def key(self) -> bytes:
        return sha256(f"{self.username}\0{self.password}".encode()).digest()


def basic(header: str | None) -> Credentials:
    """Read `Authorization: Basic ...` (RFC 7617). Raises NotSignedIn."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _LONGEST:
        raise NotSignedIn
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise NotSignedIn from None
    if not colon or not username or not password:
        raise NotSignedIn
    return Credentials(username, password)


class Access:
    """What each URL may do; `auth` leads to its internal listener."""

    def __init__(self, auth: grpc.aio.Channel, gate: Gate, clock: Clock) -> None:
        self._stub = rest_pb2_grpc.RestAccessServiceStub(auth)
        self._gate = gate
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # token, and until when it is fresh
        self._refused: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._asking: dict[bytes, asyncio.Task[str]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._out_until = 0.0

    def device(self, shown: Credentials) -> UUID | None:
        """Whose they were when auth was last asked; None if it was not, or knew them not."""
        try:
            return self._gate.read(self._known[shown.key][0]).device
        except ExpiredToken as expired:
            return expired.device
        except (KeyError, BadToken):
            return None

    async def claims(self, shown: Credentials) -> VaultClaims:
        """Whose they are, and what they allow. Raises NotSignedIn, Unavailable."""
        token, until = self._known.get(shown.key, ("", 0.0))
        claims, now = self._read(token), self._clock.monotonic()
        if claims and now < until:
            return claims
        if now < self._refused.get(shown.key, 0.0):
            raise NotSignedIn
        if now < self._out_until:
            return self._known_or_none(claims)
        asking = self._asking.get(shown.key)
        if asking is None:
            asking = self._asking[shown.key] = asyncio.create_task(self._ask(shown))
            asking.add_done_callback(partial(self._has_asked, shown.key))
        # The others that wait for the same answer get it even if this request is given up.
        await asyncio.wait([asking], timeout=_PATIENCE_SECONDS if claims else None)
        if not asking.done():
            # It goes on, and what auth says counts when it comes.
            self._note_outage()
        elif not isinstance(asking.exception(), Unavailable):
            return self._gate.read(asking.result())
        return self._known_or_none(claims)

    async def _ask(self, shown: Credentials) -> str:
        """A token by auth. Raises NotSignedIn, Unavailable."""
        try:
            fresh = await self._exchange(shown)
        except NotSignedIn:
            self._known.pop(shown.key, None)
            _put(self._refused, shown.key, self._clock.monotonic() + _REFUSED_SECONDS)
            raise
        _put(self._known, shown.key, (fresh, self._clock.monotonic() + _FRESH_SECONDS))
        self._out_until = 0.0
        return fresh

    @staticmethod
    def _known_or_none(claims: VaultClaims | None) -> VaultClaims:
        """What was known before, while auth does not answer. Raises Unavailable."""
        if claims is None:
            raise Unavailable(what="The auth server")
        return claims

    def _has_asked(self, key: bytes, asking: asyncio.Task[str]) -> None:
        del self._asking[key]
        if not asking.cancelled():
            # Seen, also when nobody waits for it any more.
            asking.exception()

    def _read(self, token: str) -> VaultClaims | None:
        """What a token says; None for one that has ended, or none."""
        try:
            return self._gate.read(token) if token else None
        except BadToken:
            return None

    async def _exchange(self, shown: Credentials) -> str:
        request = rest_pb2.ExchangeRequest(username=shown.username, password=shown.password)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable(what="The auth server") from error
        try:
            answer = await self._stub.Exchange(request, timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise NotSignedIn from None
            self._note_outage()
            raise Unavailable(what="The auth server") from error
        finally:
            self._turn.release()
        return str(answer.token)

    def _note_outage(self) -> None:
        self._out_until = self._clock.monotonic() + OUTAGE_SECONDS


def _put(known: OrderedDict[bytes, Known], key: bytes, value: Known) -> None:
    """Remember something, and forget what was longest not asked for anew."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > _KNOWN:
        known.popitem(last=False)
