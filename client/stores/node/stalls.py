"""Streams that have stopped moving: found and cancelled, however long their deadline is.

A deadline for a 16 MiB body must allow for the slowest honest line; a stream that carries nothing for `limit`
seconds is dead on any line.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Stalled(Exception):
    """Nothing has moved for too long."""


class Cancellable(Protocol):
    def cancel(self) -> object: ...


class Progress:
    """One stream that is being watched."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.last = monotonic()
        self.stalled = False
        self._call: Cancellable | None = None

    def watches(self, call: Cancellable) -> None:
        self._call = call

    def moved(self) -> None:
        self.last = self._monotonic()

    def cancel(self) -> None:
        self.stalled = True
        if self._call is not None:
            self._call.cancel()


class StallWatch:
    """Cancels watched streams that have not moved for `limit` seconds. One thread, started when needed."""

    def __init__(self, limit: float, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._watched: set[Progress] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self) -> Iterator[Progress]:
        """Watch one stream. Raises Stalled in place of whatever its cancelling raised."""
        progress = Progress(self._monotonic)
        with self._lock:
            self._watched.add(progress)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="oort-stalls", daemon=True)
                self._thread.start()
        try:
            yield progress
        except BaseException as error:
            if progress.stalled and isinstance(error, Exception):
                raise Stalled from error
            progress.cancel()
            raise
        finally:
            with self._lock:
                self._watched.discard(progress)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(min(5.0, self._limit / 4)):
            with self._lock:
                watched = list(self._watched)
            for progress in watched:
                if self._monotonic() - progress.last > self._limit:
                    progress.cancel()
