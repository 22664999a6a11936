"""Who a restic is: the user name and password of its URL, which auth turns into a vault token.

Kept true: nobody gets further than with a vault token that the node has checked as every other one (gate.py); what auth
has revoked is good here for a minute at most, or until the token ends while auth is out of reach.
"""

import asyncio
import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import grpc
from oort.auth.v1 import rest_pb2, rest_pb2_grpc

from domain.tokens import VaultClaims
from services.common.clock import Clock
from services.common.errors import NotSignedIn, Unavailable
from services.storage.errors import BadToken
from services.storage.gate import Gate

_ASK_SECONDS = 10.0
_FRESH_SECONDS = 60.0
_OUTAGE_SECONDS = 15.0  # for which auth is not asked again about what is known
_KNOWN = 1024
_AT_ONCE = 8  # that auth is asked
_LONGEST = 512


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
        self._asking: dict[bytes, asyncio.Task[str]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def claims(self, shown: Credentials) -> VaultClaims:
        """Whose they are, and what they allow. Raises NotSignedIn, Unavailable."""
        token, until = self._known.get(shown.key, ("", 0.0))
        if self._clock.monotonic() < until and (claims := self._read(token)):
            return claims
        asking = self._asking.get(shown.key)
        if asking is None:
            asking = self._asking[shown.key] = asyncio.create_task(self._ask(shown, token))
            asking.add_done_callback(partial(self._has_asked, shown.key))
        # The others that wait for the same answer get it even if this request is given up.
        return self._gate.read(await asyncio.shield(asking))

    async def _ask(self, shown: Credentials, known: str) -> str:
        """A token by auth; while that is out of reach the `known` one, if it is good."""
        try:
            fresh = await self._exchange(shown)
        except Unavailable:
            if not known or self._read(known) is None:
                raise
            self._remember(shown.key, known, _OUTAGE_SECONDS)
            return known
        except NotSignedIn:
            self._known.pop(shown.key, None)
            raise
        self._remember(shown.key, fresh, _FRESH_SECONDS)
        return fresh

    def _remember(self, key: bytes, token: str, seconds: float) -> None:
        self._known[key] = (token, self._clock.monotonic() + seconds)
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _has_asked(self, key: bytes, asking: asyncio.Task[str]) -> None:
        del self._asking[key]
        if not asking.cancelled():
            # Seen, also when nobody waits for it any more.
            asking.exception()

    def _read(self, token: str) -> VaultClaims | None:
        try:
            return self._gate.read(token)
        except BadToken:
            return None

    async def _exchange(self, shown: Credentials) -> str:
        request = rest_pb2.ExchangeRequest(username=shown.username, password=shown.password)
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._turn:
                answer = await self._stub.Exchange(request, timeout=_ASK_SECONDS)
        except TimeoutError as error:
            raise Unavailable(what="The auth server") from error
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise NotSignedIn from None
            raise Unavailable(what="The auth server") from error
        return str(answer.token)
