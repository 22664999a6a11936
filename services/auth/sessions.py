"""Login sessions and challenges, in Redis: all that is lost with it is that people log in again.

Kept true: Redis never sees a token, only its hash; a session says who asked, never what they may do: role, suspension
and revocation are read from Postgres at each call; a challenge is good for one use within a minute.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from redis.asyncio import Redis

from services.common.clock import Clock

DEVICE_IDLE = timedelta(days=30)
DEVICELESS_IDLE = timedelta(minutes=30)
CHALLENGE_LIFETIME = timedelta(minutes=1)
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    tenant: UUID
    user: UUID
    device: UUID | None
    created: datetime

    @property
    def idle(self) -> timedelta:
        """How long it lives without a call."""
        return DEVICE_IDLE if self.device else DEVICELESS_IDLE


class Sessions:
    def __init__(self, redis: Redis, clock: Clock, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._redis = redis
        self._clock = clock
        self._random = random

    async def begin(self, tenant: UUID, user: UUID, device: UUID | None) -> tuple[str, datetime]:
        """A new session: its token and when it ends if it is not used."""
        token = self._random(TOKEN_BYTES).hex()
        return token, await self._store(token, Session(tenant, user, device, self._clock.now()))

    async def renew(self, token: str, session: Session) -> None:
        """Make it as new as one that begins now, under the same token."""
        await self._store(token, Session(session.tenant, session.user, session.device, self._clock.now()))

    async def find(self, token: str) -> Session | None:
        """The session of a token, whose idle time begins anew."""
        key = _session_key(token)
        stored = await self._redis.get(key)
        session = _read(stored) if stored else None
        if session:
            await self._redis.expire(key, session.idle)
        return session

    async def end(self, token: str) -> None:
        await self._redis.delete(_session_key(token))

    async def challenge(self, device: UUID) -> bytes:
        """Bytes for a device to sign."""
        challenge = self._random(TOKEN_BYTES)
        await self._redis.set(_challenge_key(challenge), str(device), ex=CHALLENGE_LIFETIME)
        return challenge

    async def use_challenge(self, challenge: bytes, device: UUID) -> bool:
        """Whether it was given to that device and was not used; it is used now."""
        given_to = await self._redis.getdel(_challenge_key(challenge))
        return given_to == str(device).encode()

    async def _store(self, token: str, session: Session) -> datetime:
        body = {
            "tenant": str(session.tenant),
            "user": str(session.user),
            "device": str(session.device) if session.device else None,
            "created": session.created.timestamp(),
        }
        await self._redis.set(_session_key(token), json.dumps(body), ex=session.idle)
        return self._clock.now() + session.idle


def _read(stored: bytes | str) -> Session:
    body = json.loads(stored)
    return Session(
        tenant=UUID(body["tenant"]),
        user=UUID(body["user"]),
        device=UUID(body["device"]) if body["device"] else None,
        created=datetime.fromtimestamp(body["created"], UTC),
    )


def _session_key(token: str) -> str:
    return f"oort:auth:session:{sha256(token.encode()).hexdigest()}"


def _challenge_key(challenge: bytes) -> str:
    return f"oort:auth:challenge:{sha256(challenge).hexdigest()}"
