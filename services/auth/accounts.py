"""An account's own affairs: what it is, its password, its recovery code.

Kept true: L, its parameters and the seal of K change together or not at all, so K can always be opened with exactly
the password that signs in; neither a stolen session nor a guess replaces a password without the present one.
"""

from dataclasses import dataclass
from uuid import UUID

from services.auth.attempts import Attempts
from services.auth.credentials import LONGEST_SEAL, SECRET_BYTES, Credentials, Prover
from services.auth.directory import Directory, account_key
from services.auth.errors import Suspended, WrongCredentials, WrongRecoveryCode
from services.auth.gate import Caller
from services.auth.logins import Logins
from services.auth.names import exactly, opaque
from services.auth.sessions import Session, Sessions
from services.auth.store import credentials, tenants, users
from services.auth.store.credentials import StoredCredentials
from services.auth.store.tenants import Tenant
from services.auth.store.users import User
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import NotSignedIn


@dataclass(frozen=True, slots=True)
class Standing:
    tenant: Tenant
    user: User
    credentials: StoredCredentials


@dataclass(frozen=True, slots=True)
class Accounts:
    db: Database
    clock: Clock
    directory: Directory
    sessions: Sessions
    prover: Prover
    attempts: Attempts
    logins: Logins

    async def get(self, caller: Caller) -> Standing:
        """Raises NotSignedIn when the account went away meanwhile."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            tenant, user = await tenants.get(unit, caller.tenant), await users.get(unit, caller.user)
            stored = await credentials.get(unit, caller.user)
        if tenant is None or user is None or stored is None:
            raise NotSignedIn
        return Standing(tenant, user, stored)

    async def change_password(self, caller: Caller, login_key: bytes, new: Credentials, address: str) -> None:
        """Replace L and the seal of K, both or neither; a repeated call is the same call.

        Raises WrongCredentials when `login_key` is not the present L, TooManyAttempts.
        """
        exactly(login_key, "login_key", SECRET_BYTES)
        new.checked()
        standing = await self.get(caller)
        async with self.attempts.one(account_key(caller.tenant, standing.user.username), address):
            if self.prover.keeps(standing.credentials, new):
                return
            if not self.prover.matches(standing.credentials.login, login_key):
                raise WrongCredentials
        await self._replace(standing.credentials, new)
        if caller.device is None:
            await self.sessions.renew(caller.token, Session(caller.tenant, caller.user, None, self.clock.now()))

    async def set_recovery(
        self, caller: Caller, login_key: bytes, recovery_key: bytes, seal: bytes, address: str
    ) -> None:
        """Keep the seal of K under a recovery code instead of the former. Raises as change_password does."""
        exactly(login_key, "login_key", SECRET_BYTES)
        exactly(recovery_key, "recovery_key", SECRET_BYTES)
        opaque(seal, "sealed_key", LONGEST_SEAL, least=1)
        standing = await self.get(caller)
        async with self.attempts.one(account_key(caller.tenant, standing.user.username), address):
            if not self.prover.matches(standing.credentials.login, login_key):
                raise WrongCredentials
        async with self.db.unit(caller.tenant, caller.user) as unit:
            await credentials.set_recovery(unit, caller.user, self.prover.prove(recovery_key), seal)

    async def recovery_seal(self, tenant: str, username: str, recovery_key: bytes, address: str) -> tuple[UUID, bytes]:
        """The user's id and K sealed under the code. Raises WrongRecoveryCode, TooManyAttempts, Suspended."""
        stored = await self._recover(tenant, username, recovery_key, address)
        return stored.user_id, stored.recovery_seal or b""

    async def reset_password(
        self, tenant: str, username: str, recovery_key: bytes, new: Credentials, address: str
    ) -> None:
        """As change_password, proved by the recovery code, which stays valid: it seals the same K."""
        new.checked()
        stored = await self._recover(tenant, username, recovery_key, address)
        if not self.prover.keeps(stored, new):
            await self._replace(stored, new)

    async def _recover(self, tenant: str, username: str, recovery_key: bytes, address: str) -> StoredCredentials:
        exactly(recovery_key, "recovery_key", SECRET_BYTES)
        account = await self.directory.account(tenant, username)
        async with self.attempts.one(account.key, address):
            user, stored = await self.logins.read(account)
            right = self.prover.matches(stored.recovery if stored else None, recovery_key)
            if not right or user is None or stored is None:
                raise WrongRecoveryCode
        if user.suspended:
            raise Suspended
        return stored

    async def _replace(self, former: StoredCredentials, new: Credentials) -> None:
        stored = self.prover.stored(former.user_id, former.tenant_id, new, self.clock.now())
        async with self.db.unit(former.tenant_id, former.user_id) as unit:
            if not await credentials.replace(unit, stored, former=former.login_hash):
                # Another change came first: what was proved is no longer the present password.
                raise WrongCredentials
