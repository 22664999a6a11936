"""Limits of a line, for tests: nobody waits, and it is told for how long somebody would have."""

import threading

from client.stores.abc import ObjectStore
from client.stores.limited import LimitedStore, Limits, PaceClock


class Watch:
    """Makes limited stores on whose clock no time passes: what comes last waits for all that was counted before it."""

    def __init__(self) -> None:
        self.limits: list[Limits] = []
        self.longest = 0.0  # of the waits, in seconds

    def store(self, inner: ObjectStore, limits: Limits) -> LimitedStore:
        self.limits.append(limits)
        return LimitedStore(inner, limits, PaceClock(monotonic=lambda: 0, wait=self._wait))

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.longest = max(self.longest, seconds)
        return event.is_set()
