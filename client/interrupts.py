"""Ctrl-C and SIGTERM: a request to end, that falls into no gap.

Kept true: one request raises one KeyboardInterrupt in the main thread; the ones that come with it (a shell, `timeout`
and a terminal may all send one) do not interrupt the tidying up that it has started, until a person insists. While a
step is held together by `held` or `deaf`, nothing is raised in the middle of it.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_REQUEST_SECONDS = 2.0


Handler = Callable[[int, FrameType | None], object] | int | None


class _State:
    """Signals belong to the process, and so does this."""

    def __init__(self) -> None:
        self.depth = 0  # of `held` and `deaf`
        self.waiting = False  # a request came meanwhile
        self.last: float | None = None
        self.locks = 0  # of `unmoved_by_hang_ups`
        self.hang_up: Handler = None  # what handled SIGHUP before
        self.counting = threading.Lock()


_state = _State()


def install() -> None:
    """Raise KeyboardInterrupt for both signals. For the main thread alone."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def ignore() -> None:
    """All is done and the process is about to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def was_interrupted() -> bool:
    """Whether this process was asked to end: native code may have made another error of it."""
    return _state.last is not None


@contextmanager
def held() -> Iterator[None]:
    """A step that is done whole: a request that comes meanwhile is raised at its end."""
    with _quiet():
        yield
    if _state.waiting and not _state.depth:
        _state.waiting = False
        raise KeyboardInterrupt


@contextmanager
def deaf() -> Iterator[None]:
    """The last step of an action: a request that comes meanwhile is too late, for the action is done."""
    with _quiet():
        yield
    if not _state.depth:
        _state.waiting = False


@contextmanager
def unmoved_by_hang_ups() -> Iterator[None]:
    """While one of restic's locks is held: `restic unlock` sends SIGHUP to the process of a lock, to see it live.

    By a handler that does nothing, as programs that are started meanwhile would inherit that it is ignored. Begun in
    the main thread, or while that has `locks_taken_elsewhere` open; else it does nothing, nor where what handles the
    signal is not of Python, as in a program that has Python in it: that could not be put back. Several may overlap, and
    end in any order and thread: the last puts back what was there, or, in another thread, leaves that to the next, or
    to the next signal.
    """
    with _state.counting:
        is_counted = _take_hang_ups() if _is_main() else _state.hang_up is not None
        _state.locks += is_counted
    if not is_counted:
        yield
        return
    try:
        yield
    finally:
        with _state.counting:
            _state.locks -= 1
            if not _state.locks and _is_main():
                _hear_hang_ups()


@contextmanager
def locks_taken_elsewhere() -> Iterator[None]:
    """While other threads take restic's locks, which may end later; open it in the main thread."""
    with _state.counting:
        is_taken = _is_main() and _take_hang_ups()
    try:
        yield
    finally:
        with _state.counting:
            if is_taken and not _state.locks:
                _hear_hang_ups()


def _take_hang_ups() -> bool:
    """Have them passed over, if that can be undone."""
    before = signal.getsignal(signal.SIGHUP)
    if before is None:
        return False
    if _state.hang_up is None:
        _state.hang_up = before
        signal.signal(signal.SIGHUP, _pass_over)
    return True


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _hear_hang_ups() -> None:
    """Put back what handled them, if that was not done, in this order: one may come at any step."""
    before = _state.hang_up
    if before is not None:
        signal.signal(signal.SIGHUP, before)
        _state.hang_up = None


def _pass_over(number: int, _frame: FrameType | None) -> None:
    """Somebody asked whether this process lives, if it holds a lock: the last may have ended in another thread."""
    if not _state.locks:
        _hear_hang_ups()
        signal.raise_signal(number)


@contextmanager
def _quiet() -> Iterator[None]:
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    is_same = _state.last is not None and now - _state.last < _SAME_REQUEST_SECONDS
    insists = _state.last is not None and not is_same
    if is_same:
        return
    _state.last = now
    if _state.depth and not insists:
        _state.waiting = True
        return
    raise KeyboardInterrupt
