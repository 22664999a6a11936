"""The figures of several processes as those of one instance (figures.py)."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.common.figures import Figures, Line, answer, summed


class Measured:
    """What one process measures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls", ["method"], registry=self.registry)
        self.seconds = Histogram("seconds", "How long", buckets=(1, 10), registry=self.registry)
        self.free = Gauge("free_bytes", "Of the node", registry=self.registry)
        self.files = Gauge("process_open_fds", "Open files", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)


@contextmanager
def answering(measured: Measured) -> Iterator[Line]:
    ours, its = socket.socketpair()
    with closing(ours), closing(its):
        thread = threading.Thread(target=answer, args=(its, measured.text))
        thread.start()
        try:
            yield Line(ours)
        finally:
            ours.close()
            thread.join()


def shown(own: Measured, *others: Figures) -> dict[str, float]:
    text = generate_latest(summed(own.registry, lambda: others)).decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def told(line: Line) -> Figures:
    line.ask()
    return line.figures(60)


def test_counters_and_histograms_are_summed_and_gauges_are_the_first_processs() -> None:
    own, other = Measured(), Measured()
    for measured, times in ((own, 2), (other, 3)):
        measured.calls.labels("Put").inc(times)
        measured.seconds.observe(times)
        measured.free.set(times)
        measured.files.set(times)
    other.calls.labels("Get").inc()
    with answering(other) as line:
        found = shown(own, told(line))
    assert found['calls_total{method="Put"}'] == 5
    assert found['calls_total{method="Get"}'] == 1
    assert (found['seconds_bucket{le="1.0"}'], found['seconds_bucket{le="10.0"}'], found["seconds_sum"]) == (0, 2, 5)
    assert found["free_bytes"] == 2
    assert found["process_open_fds"] == 5


def test_what_a_process_has_counted_stays_when_it_has_ended_and_its_open_files_do_not() -> None:
    own, other = Measured(), Measured()
    other.calls.labels("Put").inc(3)
    other.files.set(7)
    with answering(other) as line:
        told(line)
    assert shown(own, told(line))['calls_total{method="Put"}'] == 3
    found = shown(own, line.lasting())
    assert (found['calls_total{method="Put"}'], found["process_open_fds"]) == (3, 0)


def test_a_late_answer_is_what_is_told_the_next_time() -> None:
    ours, its = socket.socketpair()
    with closing(ours), closing(its):
        line = Line(ours)
        line.ask()
        assert line.figures(0) == {}
        assert its.recv(100) == b"?"
        text = b"# TYPE calls_total counter\ncalls_total 4.0\n"
        its.sendall(len(text).to_bytes(4, "big") + text[:10])
        line.ask()
        assert line.figures(0.01) == {}
        its.sendall(text[10:])
        assert line.figures(60) == {("calls", "calls_total", ()): 4.0}
        line.ask()
        assert line.figures(0) == {("calls", "calls_total", ()): 4.0}
        assert its.recv(100) == b"?", "asked once for each answer"


def test_who_asks_at_the_same_time_as_another_does_not_wait_for_an_answer_that_was_read() -> None:
    own = Measured()
    own.calls.labels("Put").inc(3)
    with answering(own) as line:
        line.ask()
        line.ask()
        first, begun = line.figures(60), time.monotonic()
        assert line.figures(60) == first
        assert time.monotonic() - begun < 60


def test_some_figures_can_be_asked_for_by_name() -> None:
    own = Measured()
    own.calls.labels("Put").inc(3)
    some = summed(own.registry, list).restricted_registry(["calls_total", "free_bytes"])
    lines = [line for line in generate_latest(some).decode().splitlines() if not line.startswith("#")]
    assert lines == ['calls_total{method="Put"} 3.0', "free_bytes 0.0"]


def test_figures_that_cannot_be_told_are_those_of_the_last_time_and_the_next_ones_come() -> None:
    own, other = Measured(), Measured()
    other.calls.labels("Put").inc(3)
    with answering(other) as line:
        told(line)
        other.free.set_function(lambda: 1 // 0)
        other.calls.labels("Put").inc()
        assert shown(own, told(line))['calls_total{method="Put"}'] == 3
        other.free.set_function(lambda: 1)
        assert shown(own, told(line))['calls_total{method="Put"}'] == 4
