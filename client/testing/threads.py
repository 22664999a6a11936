"""Threads that a piece of work must not leave behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_left() -> Iterator[None]:
    """Every thread that begins within has ended at the end. One of an earlier test's may end meanwhile."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    if left:
        raise AssertionError(f"threads are left: {left}")
