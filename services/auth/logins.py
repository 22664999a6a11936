"""Signing in: by password, or by a registered device's key.

Kept true: names that do not exist, wrong passwords and wrong tenants are refused with the same words after the same
work; a device's key never changes under its id; a revoked device's id never signs in again; a device that may only add
stays one, however it signs in.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.auth.attempts import Attempts
from services.auth.credentials import SECRET_BYTES, Kdf, Prover
from services.auth.directory import Account, Directory
from services.auth.errors import (
    ChallengeOver,
    DeviceUnknown,
    IdTaken,
    Suspended,
    WrongCredentials,
    WrongDeviceKey,
)
from services.auth.names import exactly
from services.auth.sessions import Sessions
from services.auth.store import credentials, devices, users
from services.auth.store.credentials import StoredCredentials
from services.auth.store.devices import Device
from services.auth.store.users import User
from services.common.clock import Clock
from services.common.database import Database

# What a device signs is this and the challenge (accounts.proto), so the signature fits nothing else.
DEVICE_LOGIN = b"oort device login v1\0"


@dataclass(frozen=True, slots=True)
class PresentedDevice:
    """What a device says of itself as it signs in by password."""

    id: UUID
    name: str
    platform: str
    client_version: str
    public_key: bytes
    append_only: bool


@dataclass(frozen=True, slots=True)
class SignedIn:
    token: str = field(repr=False)
    expires: datetime
    tenant: UUID
    user: UUID
    device: UUID | None
    sealed_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Logins:
    db: Database
    clock: Clock
    directory: Directory
    sessions: Sessions
    prover: Prover
    attempts: Attempts

    async def parameters(self, tenant: str, username: str) -> Kdf:
        """How to stretch the password of a user, known or not."""
        account = await self.directory.account(tenant, username)
        async with self.db.unit(account.tenant_id, account.user_id) as unit:
            stored = await credentials.get(unit, account.user_id)
        return self.prover.kdf_of(stored, account.key)

    async def by_password(
        self, tenant: str, username: str, login_key: bytes, device: PresentedDevice | None, address: str
    ) -> SignedIn:
        """Raises WrongCredentials, TooManyAttempts, Suspended; DeviceUnknown for a revoked device."""
        exactly(login_key, "login_key", SECRET_BYTES)
        account = await self.directory.account(tenant, username)
        async with self.attempts.one(account.key, address):
            user, stored = await self.read(account)
            right = self.prover.matches(stored.login if stored else None, login_key)
            if not right or user is None or stored is None:
                raise WrongCredentials
        if user.suspended:
            raise Suspended
        if device:
            await self._register(user, device)
        token, expires = await self.sessions.begin(user.tenant_id, user.id, device.id if device else None)
        return SignedIn(token, expires, user.tenant_id, user.id, device.id if device else None, stored.sealed_key)

    async def read(self, account: Account) -> tuple[User | None, StoredCredentials | None]:
        """A named account's rows; the same queries when there is none."""
        async with self.db.unit(account.tenant_id, account.user_id) as unit:
            return await users.get(unit, account.user_id), await credentials.get(unit, account.user_id)

    async def by_device(self, device: UUID, challenge: bytes, signature: bytes) -> SignedIn:
        """Raises ChallengeOver, DeviceUnknown, WrongDeviceKey, Suspended."""
        if not await self.sessions.use_challenge(challenge, device):
            raise ChallengeOver
        owner = await self.directory.device(device)
        if owner is None:
            raise DeviceUnknown
        async with self.db.unit(owner.tenant_id, owner.user_id) as unit:
            user, known = await users.get(unit, owner.user_id), await devices.get(unit, device)
        if user is None or known is None or known.revoked:
            raise DeviceUnknown
        try:
            Ed25519PublicKey.from_public_bytes(known.public_key).verify(signature, DEVICE_LOGIN + challenge)
        except InvalidSignature:
            raise WrongDeviceKey from None
        if user.suspended:
            raise Suspended
        token, expires = await self.sessions.begin(user.tenant_id, user.id, device)
        return SignedIn(token, expires, user.tenant_id, user.id, device)

    async def _register(self, user: User, presented: PresentedDevice) -> None:
        now = self.clock.now()
        device = Device(
            id=presented.id,
            tenant_id=user.tenant_id,
            user_id=user.id,
            name=presented.name,
            platform=presented.platform,
            client_version=presented.client_version,
            public_key=presented.public_key,
            registered=now,
            last_seen=now,
            append_only=presented.append_only,
        )
        async with self.db.unit(user.tenant_id, user.id) as unit:
            if await devices.insert(unit, device):
                return
            known = await devices.get(unit, device.id)
            if known and known.revoked:
                raise DeviceUnknown
            if known is None or known.public_key != device.public_key:
                raise IdTaken(what="device", id=device.id)
            await devices.refresh(unit, device.id, device.platform, device.client_version, now)
            if device.append_only:
                await devices.set_append_only(unit, device.id, append_only=True)
