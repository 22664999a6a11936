"""With what a restic opens a vault: a user name and a password, which storage nodes exchange for vault tokens.

Kept true: the password is an HMAC under the pepper and lies nowhere; what is exchanged is judged by what Postgres says
at that moment, so whatever ends a device's own tokens ends these too: revoked devices, suspended users, vaults that
were removed; and of a device that may only add no URL can do more.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from domain.ids import uuid7
from domain.sessions import Scope
from services.auth.errors import DeviceUnknown
from services.auth.gate import Caller
from services.auth.storage import Storage
from services.auth.store import devices, rest_access, users, vaults
from services.auth.store.rest_access import RestAccessRow
from services.auth.tokens import TokenSigner
from services.auth.vaults import claims_for, in_force
from services.common.clock import Clock
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotSignedIn

_STATEMENT = b"oort rest v1"
_ID_BYTES, _MAC_BYTES = 16, 32
_SCOPES = {
    True: frozenset((Scope.READ, Scope.APPEND)),
    False: frozenset((Scope.READ, Scope.APPEND, Scope.DELETE)),
}


@dataclass(frozen=True, slots=True)
class IssuedAccess:
    """What stands in a URL; `endpoints` are host:port."""

    username: str
    password: str = field(repr=False)
    endpoints: list[str]


@dataclass(frozen=True, slots=True)
class RestAccess:
    db: Database
    clock: Clock
    storage: Storage
    signer: TokenSigner
    pepper: bytes = field(repr=False)

    async def issue(self, caller: Caller, vault: UUID, random: bytes, *, append_only: bool) -> IssuedAccess:
        """What the caller's device has for a vault, or gets now; `random` are the 10 bytes of a new id.

        Raises NotFound, NotAllowed, InvalidArgument, StorageUnavailable; AppendOnly if it may only add, and wants more.
        """
        device_id, now = caller.own_device, self.clock.now()
        if not append_only:
            caller.require_full()
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await in_force(unit, vault)
            device = await devices.get(unit, device_id)
        if device is None or device.revoked:
            raise DeviceUnknown
        if known.cluster is None:
            raise InvalidArgument(
                detail=f"The vault {known.name} does not lie on a storage cluster: restic opens its folder itself."
            )
        endpoints = await self.storage.rest_endpoints(known.cluster)
        new = uuid7(int(now.timestamp() * 1000), random)
        wanted = RestAccessRow(new, caller.tenant, caller.user, vault, device_id, append_only, now)
        async with self.db.unit(caller.tenant, caller.user) as unit:
            await rest_access.insert(unit, wanted)
            row = await rest_access.in_force(unit, vault, device_id, append_only=append_only)
        if row is None:
            raise DeviceUnknown
        return IssuedAccess(row.id.hex, self._password(row.tenant_id, row.id), endpoints)

    async def revoke(self, caller: Caller, vault: UUID) -> int:
        """End all that was issued for a vault; answers how many were in force. Raises NotFound."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            await in_force(unit, vault)
            return await rest_access.revoke(unit, vault, self.clock.now())

    async def exchange(self, username: str, password: str) -> tuple[str, datetime]:
        """A vault token, and when it ends. Raises NotSignedIn."""
        access, tenant = self._read(username, password)
        async with self.db.unit(tenant) as unit:
            row = await rest_access.get(unit, access)
            if row is None or row.revoked:
                raise NotSignedIn
            return await self._token(unit, row)

    async def _token(self, unit: Unit, row: RestAccessRow) -> tuple[str, datetime]:
        user = await users.get(unit, row.user_id)
        device = await devices.get(unit, row.device_id)
        vault = await vaults.get(unit, row.vault_id)
        if user is None or user.suspended or device is None or device.revoked or vault is None or vault.removed:
            raise NotSignedIn
        return self.signer.sign(claims_for(vault, device, _SCOPES[row.append_only]), self.clock.now())

    def _password(self, tenant: UUID, access: UUID) -> str:
        return base64.urlsafe_b64encode(tenant.bytes + self._mac(tenant, access)).decode()

    def _mac(self, tenant: UUID, access: UUID) -> bytes:
        return hmac.digest(self.pepper, b"\0".join((_STATEMENT, tenant.bytes, access.bytes)), sha256)

    def _read(self, username: str, password: str) -> tuple[UUID, UUID]:
        """Id and tenant, if they were ever issued. Raises NotSignedIn, before any query."""
        try:
            access = UUID(hex=username)
            said = base64.urlsafe_b64decode(password.encode("ascii"))
        except (ValueError, binascii.Error):
            raise NotSignedIn from None
        if len(said) != _ID_BYTES + _MAC_BYTES:
            raise NotSignedIn
        tenant = UUID(bytes=said[:_ID_BYTES])
        if not hmac.compare_digest(said[_ID_BYTES:], self._mac(tenant, access)):
            raise NotSignedIn
        return access, tenant
