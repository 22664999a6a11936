import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

# Rounds of the event loop that `advance` gives to whoever a jump has woken, before and after each jump.
_ROUNDS = 20


class ManualClock:
    """A clock that moves when it is told to: tests of days run in microseconds."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._wall = start
        self._monotonic = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed the moment."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait for a later moment."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def set_wall(self, moment: datetime) -> None:
        """What a person does who sets the clock, backwards too; the monotonic clock goes on."""
        self._wall = moment

    def jump(self, seconds: float) -> None:
        """Let time pass at once, waking nobody in between; for code that only looks at the clock."""
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking every sleeper at its own moment and letting it run."""
        end = self._monotonic + seconds
        await self._let_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.jump(max(0.0, self._sleepers[0][0] - self._monotonic))
            await self._let_run()
        self.jump(max(0.0, end - self._monotonic))
        await self._let_run()

    async def _let_run(self) -> None:
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
