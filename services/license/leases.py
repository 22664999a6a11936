"""Leases: the right of an installation's instances to run, given for a time.

Kept true: while an installation holds a lease of a serial whose grace is not over, no other installation gets one; so
an instance that is cut off runs through its grace and never meets a second holder.
"""

from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.clock import Clock
from services.common.database import Database
from services.common.lease_token import Lease, whole_seconds
from services.license.errors import BadSignature, NoSuchSerial, SerialInUse
from services.license.requests import SKEW, VerifiedRequest
from services.license.store import leases, serials


@dataclass(frozen=True, slots=True)
class Leasing:
    """Gives leases, signed with `key`, that last `life`, and `grace` longer while this server is out of reach."""

    db: Database
    clock: Clock
    key: Ed25519PrivateKey
    life: timedelta
    grace: timedelta

    async def acquire(self, request: VerifiedRequest) -> str:
        """Take or renew a lease. Answers its token. Raises NoSuchSerial, SerialInUse, BadSignature."""
        issued = whole_seconds(self.clock.now())
        lease = Lease(
            bond=request.bond,
            nonce=request.nonce.hex(),
            issued=issued,
            expires=issued + self.life,
            grace_ends=issued + self.life + self.grace,
        )
        await self._once(request)
        async with self.db.unit() as unit:
            if not await serials.lock(unit, request.bond.serial):
                raise NoSuchSerial
            until = await leases.held_by_others(unit, request.bond.serial, request.bond.installation, issued)
            if until is not None:
                raise SerialInUse(until=until.isoformat(timespec="minutes"))
            await leases.put(unit, lease)
        return lease.to_token(self.key)

    async def release(self, request: VerifiedRequest) -> None:
        """Give a lease back before its time; the instance runs no longer. Raises BadSignature."""
        await self._once(request)
        async with self.db.unit() as unit:
            await leases.remove(unit, request.bond)

    async def _once(self, request: VerifiedRequest) -> None:
        """In a transaction of its own: a request that is refused is used up too."""
        now = self.clock.now()
        async with self.db.unit() as unit:
            # Older ones are refused for their time; twice the skew, since it counts in both directions.
            await leases.forget_nonces(unit, now - 2 * SKEW)
            if not await leases.remember_nonce(unit, request.nonce, now):
                raise BadSignature(detail="this request was used before.")
