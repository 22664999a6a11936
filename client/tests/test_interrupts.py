import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from client import interrupts


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_state", interrupts._State())
    former = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    interrupts.install()
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_request_to_end_is_raised_once_however_often_it_is_sent(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert interrupts.was_interrupted()


def test_a_person_who_insists_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(KeyboardInterrupt), interrupts.deaf():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_step_that_is_held_together_is_done_before_the_request_is_raised() -> None:
    steps = []

    def step() -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("done")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert steps == ["done"]


def test_a_hang_up_that_is_handled_by_other_code_than_pythons_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda _number: None)  # as Python says of it
        patch.setattr(signal, "signal", lambda *_: pytest.fail("nobody could put it back"))
        with interrupts.unmoved_by_hang_ups():
            pass


def test_locks_that_end_in_any_order_and_thread_leave_what_handled_a_hang_up_before() -> None:
    before = signal.getsignal(signal.SIGHUP)
    first, second = interrupts.unmoved_by_hang_ups(), interrupts.unmoved_by_hang_ups()
    first.__enter__()
    second.__enter__()
    elsewhere = threading.Thread(target=first.__exit__, args=(None, None, None))
    elsewhere.start()
    elsewhere.join()
    os.kill(os.getpid(), signal.SIGHUP)  # this process would end of it
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGHUP) == before


def test_what_handled_a_hang_up_is_put_back_after_a_lock_that_ended_in_another_thread() -> None:
    before = signal.getsignal(signal.SIGHUP)
    lock = interrupts.unmoved_by_hang_ups()
    lock.__enter__()
    elsewhere = threading.Thread(target=lock.__exit__, args=(None, None, None))
    elsewhere.start()
    elsewhere.join()
    with interrupts.unmoved_by_hang_ups():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_lock_that_another_thread_takes_while_it_may_is_left_alone_by_hang_ups_for_as_long_as_it_is_held() -> None:
    before = signal.getsignal(signal.SIGHUP)
    lock = interrupts.unmoved_by_hang_ups()
    with interrupts.locks_taken_elsewhere():
        elsewhere = threading.Thread(target=lock.__enter__)
        elsewhere.start()
        elsewhere.join()
    os.kill(os.getpid(), signal.SIGHUP)  # this process would end of it
    lock.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGHUP) == before
    with interrupts.locks_taken_elsewhere():
        assert signal.getsignal(signal.SIGHUP) != before
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_hang_up_after_a_lock_that_ended_in_another_thread_is_heard() -> None:
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGHUP, hear)
    try:
        lock = interrupts.unmoved_by_hang_ups()
        lock.__enter__()
        elsewhere = threading.Thread(target=lock.__exit__, args=(None, None, None))
        elsewhere.start()
        elsewhere.join()
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) == hear
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_in_the_last_step_is_too_late() -> None:
    with interrupts.deaf():
        os.kill(os.getpid(), signal.SIGTERM)
    with interrupts.held():
        assert interrupts.was_interrupted()
