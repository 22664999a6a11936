"""Time as an argument: nothing in the services reads the system's clock but through this."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The three things that a program asks of time."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC. May be set back by people: order never comes from it."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back while the process runs."""

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
