"""Threads of one job: bounded in bytes, ended by the first error."""

import gc
import threading
from functools import partial
from weakref import ReferenceType, ref

import pytest

from client.flow import ByteQueue, Crew, Stopped
from client.testing.threads import none_left


def test_items_come_out_in_order_and_the_end_follows_them() -> None:
    queue: ByteQueue[int] = ByteQueue(Crew(), 100)
    for number in range(5):
        queue.put(number, 10)
    queue.close()
    assert [queue.get() for _ in range(6)] == [0, 1, 2, 3, 4, None]


def test_a_full_queue_holds_the_producer_until_there_is_room() -> None:
    crew = Crew()
    queue: ByteQueue[int] = ByteQueue(crew, 10)
    queue.put(1, 6)
    producer = crew.start("producer", lambda: queue.put(2, 6))
    producer.join(0.05)
    assert producer.is_alive()
    assert queue.get() == 1
    crew.wait()
    assert queue.get() == 2


def test_a_thread_that_waits_elsewhere_is_woken_when_the_crew_ends() -> None:
    crew = Crew(patience=0.05)
    elsewhere = threading.Event()
    waiter = crew.start("waiter", elsewhere.wait)
    crew.end(elsewhere.set)
    assert not waiter.is_alive()


def test_what_fails_in_a_part_of_a_crew_ends_that_part_and_what_fails_in_the_crew_ends_all() -> None:
    crew = Crew()
    told: list[BaseException] = []
    one, other = crew.part(told.append), crew.part(told.append)
    conditions = [one.condition(), other.condition()]

    def wait(part: Crew, condition: threading.Condition) -> None:
        with condition:
            part.wait_until(condition, lambda: False)

    threads = [part.start("waiter", partial(wait, part, on)) for part, on in zip((one, other), conditions, strict=True)]
    failure = ValueError()
    one.fail(failure)
    threads[0].join()
    one.fail(ValueError())
    assert (told, one.error, other.error, crew.error) == ([failure], failure, None, None)
    crew.ensure_running()
    assert threads[1].is_alive()
    crew.fail(KeyError())
    crew.end()
    assert not threads[1].is_alive()
    assert (type(crew.error), type(other.error), one.error) == (KeyError, KeyError, failure)


def test_a_thread_that_another_starts_while_the_crew_ends_is_waited_for_and_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew(patience=0.5)
    part = crew.part(lambda _: None)
    starting, joining, elsewhere = threading.Event(), threading.Event(), threading.Event()
    woken: list[bool] = []
    start, join = threading.Thread.start, threading.Thread.join

    def started_late(thread: threading.Thread) -> None:
        if thread.name == "second":
            starting.set()
            assert joining.wait(60)
        start(thread)

    def joined(thread: threading.Thread, seconds: float | None = None) -> None:
        joining.set()
        join(thread, seconds)

    monkeypatch.setattr(threading.Thread, "start", started_late)
    monkeypatch.setattr(threading.Thread, "join", joined)
    with none_left():
        part.start("first", lambda: crew.start("second", lambda: woken.append(elsewhere.wait(60))))
        assert starting.wait(60)
        crew.end(elsewhere.set)
    assert (woken, crew.error, part.error) == ([True], None, None)


def test_a_single_item_may_be_larger_than_the_queue() -> None:
    queue: ByteQueue[int] = ByteQueue(Crew(), 10)
    queue.put(1, 1000)
    assert queue.get() == 1


def test_the_first_error_ends_every_wait_and_is_the_one_reported() -> None:
    crew = Crew(patience=60.0)  # a thread that is woken needs the processor to end
    queue: ByteQueue[int] = ByteQueue(crew, 10)
    empty: ByteQueue[int] = ByteQueue(crew, 10)
    taken: list[int | None] = []
    queue.put(1, 10)
    crew.start("producer", lambda: queue.put(2, 10))
    crew.start("consumer", lambda: taken.append(empty.get()))
    first = ValueError("the first")

    def failing() -> None:
        raise first

    crew.start("failing", failing)
    with pytest.raises(Stopped):
        crew.wait()
    woken: list[str] = []
    crew.end(lambda: woken.append("woken"))
    assert not woken
    crew.fail(ValueError("a later one"))
    with pytest.raises(ValueError, match="the first"):
        crew.check()
    with pytest.raises(Stopped):
        queue.put(3, 1)


def test_no_thread_is_left_when_a_crew_has_joined() -> None:
    crew = Crew()
    with none_left():
        for number in range(5):
            crew.start(f"{number}", lambda: None)
        crew.wait()


def test_an_error_that_is_kept_holds_nothing_of_what_the_thread_worked_with() -> None:
    class Pack:
        """Something large."""

    packs: list[ReferenceType[Pack]] = []

    def work() -> None:
        pack = Pack()
        packs.append(ref(pack))
        try:
            int("no number")
        except ValueError as error:
            raise KeyError from error

    crew = Crew()
    crew.start("work", work)
    crew.end()
    assert isinstance(crew.error, KeyError)
    gc.collect()
    assert packs[0]() is None
