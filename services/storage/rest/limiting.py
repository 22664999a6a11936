"""Rate limits of restic's protocol: who is early by a little waits at the node.

restic itself does not: while it opens a repository the first 429 is its end, with a text that says the repository is
missing, and later it repeats without heed to Retry-After (seen with 0.14).

Kept true: auth is asked about what is not known to be good only as often as strangers may call.
"""

from collections import Counter
from uuid import UUID

from services.common.addresses import Address
from services.common.clock import Clock
from services.storage.access.rates import Kind, Rates
from services.storage.errors import TooManyCalls

_PATIENCE_SECONDS = 10.0
_WAITING = 32  # requests of a device at once; a restic makes 5 if it is not told otherwise


class LimitRequests:
    """Counts each request before anything of it is judged."""

    def __init__(self, rates: Rates, clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._waiting: Counter[UUID] = Counter()

    async def take(self, device: UUID | None, address: Address | None, kind: Kind) -> None:
        """Count a request that begins, when there is room for it. Raises TooManyCalls.

        `device` is None for who is not known to be good: strangers are not waited for, and have no beats.
        """
        if device is None:
            await self._rates.take(None, address)
            return
        end = self._clock.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                await self._rates.take(device, address, kind)
            except TooManyCalls as refused:
                pause = refused.retry_seconds
                if self._waiting[device] >= _WAITING or self._clock.monotonic() + pause > end:
                    raise
            else:
                return
            self._waiting[device] += 1
            try:
                await self._clock.sleep(pause)
            finally:
                self._waiting[device] -= 1
                if not self._waiting[device]:
                    del self._waiting[device]
