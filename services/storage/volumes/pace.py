"""How much of a disk or a line background work takes."""

from services.common.clock import Clock


class Pace:
    """No more bytes a second than allowed, over whatever time."""

    def __init__(self, clock: Clock, bytes_per_second: int) -> None:
        self._clock = clock
        self._rate = bytes_per_second
        self._free_at = clock.monotonic()

    async def spend(self, size: int) -> None:
        """Wait until these bytes, which came just now, are paid for."""
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        await self._clock.sleep(self._free_at - now)
