"""Lock-out: guesses at one account from one address slow down until guessing is hopeless.

Kept true: an attempt is counted before it is judged, so a thousand at once are a thousand; names that do not exist
are counted alike; other addresses of the same account are not locked out with the guesser.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.auth.credentials import Prover
from services.auth.errors import TooManyAttempts
from services.auth.store import attempts
from services.common.addresses import address_of_peer, range_of
from services.common.clock import Clock
from services.common.database import Database

# A person mistypes a few times; after that the delay doubles from a second to a quarter of an hour.
FREE_FAILURES = 5
LONGEST_DELAY = timedelta(minutes=15)
MEMORY = timedelta(days=1)
# Whoever has one IPv6 address has a whole /64 of them.
_IPV6_NETWORK = 64
_IPV4_ADDRESS = 32


@dataclass(frozen=True, slots=True)
class Attempts:
    db: Database
    clock: Clock
    prover: Prover

    @asynccontextmanager
    async def one(self, account: str, address: str) -> AsyncIterator[None]:
        """Judge one attempt inside: it stays counted when the body raises, and clears the count when it ends well.

        `account` is whatever names it the same way each time. Raises TooManyAttempts while locked out.
        """
        subject = self.prover.keyed("attempts v1", account, address)
        now = self.clock.now()
        async with self.db.unit() as unit:
            begun = await attempts.begin(unit, subject, now, free=FREE_FAILURES, longest=LONGEST_DELAY, memory=MEMORY)
            until = None if begun else await attempts.blocked_until(unit, subject)
        if not begun:
            wait = until - now if until else timedelta()
            raise TooManyAttempts(seconds=max(1, math.ceil(wait.total_seconds())))
        yield
        async with self.db.unit() as unit:
            await attempts.clear(unit, subject)

    async def forget_old(self) -> int:
        """Remove what no longer counts; how many rows that were."""
        async with self.db.unit() as unit:
            return await attempts.forget(unit, self.clock.now() - MEMORY)


def network_of(peer: str) -> str:
    """Whom to count: the address in grpc's `ipv4:1.2.3.4:5` or `ipv6:[::1]:5`, without the port."""
    address = address_of_peer(peer)
    if address is None:
        return peer
    return range_of(address, _IPV4_ADDRESS, _IPV6_NETWORK).removesuffix(f"/{_IPV4_ADDRESS}")
