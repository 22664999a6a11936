"""Limits of a line, for tests: nobody waits, and it is told for how long somebody would have."""

import threading

from client.stores.limited import Limits, Line, PaceClock


class Watch:
    """Makes lines on whose clock no time passes: what comes last waits for all that was counted before it."""

    def __init__(self) -> None:
        self.limits: list[Limits] = []
        self.longest = 0.0  # of the waits, in seconds

    def line(self, limits: Limits) -> Line:
        self.limits.append(limits)
        return Line(limits, PaceClock(monotonic=lambda: 0, wait=self._wait))

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.longest = max(self.longest, seconds)
        return event.is_set()
