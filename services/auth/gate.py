"""Who calls, and whether such a caller may call this at all: every rpc passes here first.

Kept true: suspension, revocation, role and that a device may only add are as Postgres says at this moment, whatever the
session says. What a
caller sees of a table is not decided here but by row-level security, so a gate that lets everyone through shows
nobody another's rows.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Protocol
from uuid import UUID

import grpc

from services.auth.attempts import network_of
from services.auth.errors import AppendOnly, DeviceUnknown, Suspended
from services.auth.sessions import Session, Sessions
from services.auth.store import credentials, devices, users
from services.auth.store.users import Role
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import NotAllowed, NotSignedIn
from services.common.identity import OPERATOR, bearer, require_peer

Context = grpc.aio.ServicerContext[Any, Any]
_SEEN_EVERY = timedelta(minutes=5)


class Need(Enum):
    """What a caller must be."""

    SIGNED_IN = auto()
    DEVICE = auto()  # signed in as a device
    FULL = auto()  # not as a device that may only add
    ADMIN = auto()  # of its tenant, and FULL


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in caller. `token` is its session's."""

    tenant: UUID
    user: UUID
    role: Role
    device: UUID | None
    token: str = field(repr=False)
    append_only: bool = False

    def require_full(self) -> None:
        """Raises AppendOnly for a device that may only add."""
        if self.append_only:
            raise AppendOnly

    @property
    def own_device(self) -> UUID:
        """Raises NotAllowed for a session that belongs to no device."""
        if self.device is None:
            raise NotAllowed(detail="Only a device may do this: log in with a device.")
        return self.device


class Gate(Protocol):
    async def caller(self, context: Context, need: Need = Need.SIGNED_IN) -> Caller:
        """Who is signed in. Raises NotSignedIn, DeviceUnknown, Suspended, AppendOnly or NotAllowed."""

    async def guest(self, context: Context) -> str:
        """The address of whoever signs in; nobody is kept out."""

    async def operator(self, context: Context) -> None:
        """Let an operator's tool through. Raises NotAllowed."""

    async def node(self, context: Context) -> None:
        """Let a storage node through. Raises NotAllowed."""


class SessionGate:
    """The gate in use: sessions on the public listener, operators' certificates inside."""

    def __init__(self, db: Database, sessions: Sessions, clock: Clock) -> None:
        self._db = db
        self._sessions = sessions
        self._clock = clock

    async def caller(self, context: Context, need: Need = Need.SIGNED_IN) -> Caller:
        token = bearer(context)
        session = await self._sessions.find(token)
        if session is None:
            raise NotSignedIn
        role, append_only = await self._standing(session)
        caller = Caller(session.tenant, session.user, role, session.device, token, append_only)
        if need is Need.DEVICE:
            _ = caller.own_device
        if need is Need.ADMIN and caller.role is not Role.ADMIN:
            raise NotAllowed(detail="Only an administrator may do this.")
        if need in (Need.FULL, Need.ADMIN):
            caller.require_full()
        return caller

    async def guest(self, context: Context) -> str:
        return network_of(context.peer())

    async def operator(self, context: Context) -> None:
        require_peer(context, OPERATOR)

    async def node(self, context: Context) -> None:
        require_peer(context, "storage")

    async def _standing(self, session: Session) -> tuple[Role, bool]:
        """The caller's role, and whether its device may only add."""
        now, append_only = self._clock.now(), False
        async with self._db.unit(session.tenant, session.user) as unit:
            user = await users.get(unit, session.user)
            if user is None:
                raise NotSignedIn
            if user.suspended:
                raise Suspended
            if session.device is None:
                stored = await credentials.get(unit, session.user)
                # Whoever changes a password wants other web sessions over; devices have keys of their own.
                if stored is None or session.created < stored.password_changed:
                    raise NotSignedIn
            else:
                device = await devices.get(unit, session.device)
                if device is None or device.revoked:
                    raise DeviceUnknown
                await devices.seen(unit, session.device, now, now - _SEEN_EVERY)
                append_only = device.append_only
        return Role(user.role), append_only
