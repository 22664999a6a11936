"""What an instance of several processes measures, as if it were one.

Kept true: counters and histograms are sums over all processes that there have been, so that none ever falls because a
process ended, of which what it said last counts, and not what it did since; of memory and open files those that there
are are added up; every other gauge is the first process's.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_ADDED = frozenset(("counter", "histogram"))
_OF_THE_LIVING = frozenset(("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"))
_ASK = b"?"
_LENGTH = struct.Struct("!I")
_AT_ONCE = 1 << 16

# Values by the family, the sample's name and its labels.
Key = tuple[str, str, tuple[tuple[str, str], ...]]
Figures = dict[Key, float]


def answer(line: socket.socket, figures: Callable[[], bytes]) -> None:
    """Tell the figures, Prometheus' text, as often as they are asked for. Returns when nobody is there to ask."""
    try:
        while line.recv(len(_ASK)):
            text = _text(figures)
            line.sendall(_LENGTH.pack(len(text)) + text)
    except OSError:  # as an end without a word is told where something was still to be read
        return


def _text(figures: Callable[[], bytes]) -> bytes:
    """Nothing where they cannot be told now, in which case those of the last time hold."""
    try:
        return figures()
    except Exception:  # noqa: BLE001 - whatever a collector meets, the process serves on
        structlog.get_logger("workers").exception("the figures cannot be told")
        return b""


class Line:
    """To one process that answers; for any thread."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._turn = threading.Lock()
        self._is_asked = False
        self._is_over = False
        self._arrived = bytearray()
        self._last: Figures = {}

    def ask(self) -> None:
        """Nothing if an answer is still to come."""
        with self._turn, contextlib.suppress(OSError):  # it has ended: what it said last holds
            if not self._is_asked:
                self._line.sendall(_ASK)
                self._is_asked = True

    def figures(self, seconds: float) -> Figures:
        """What it says when it was asked, or said last, if nothing has come within `seconds`."""
        with self._turn:
            end = time.monotonic() + seconds
            if self._is_over or not self._is_asked:  # who asked at the same time has read the answer
                return self._last
            try:
                while (text := self._whole()) is None:
                    self._line.settimeout(max(end - time.monotonic(), 0.001))
                    part = self._line.recv(_AT_ONCE)
                    if not part:
                        return self._last
                    self._arrived += part
            except OSError:  # among them that the time is over: what is still to come is read the next time
                return self._last
            self._is_asked = False
            self._arrived.clear()
            self._last = dict(_read(text)) or self._last
            return self._last

    def _whole(self) -> str | None:
        if len(self._arrived) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._arrived)
        body = self._arrived[_LENGTH.size :]
        return body.decode() if len(body) == length else None

    def lasting(self) -> Figures:
        """It has ended: of what it said last, that which stays true. No more is heard of it then."""
        with self._turn:
            self._is_over = True
            return {key: value for key, value in self._last.items() if key[0] not in _OF_THE_LIVING}


def _read(text: str) -> Iterator[tuple[Key, float]]:
    for family in text_string_to_metric_families(text):
        if family.type in _ADDED or family.name in _OF_THE_LIVING:
            for sample in family.samples:
                yield _key(family, sample), sample.value


def _key(family: Metric, sample: Sample) -> Key:
    return family.name, sample.name, tuple(sorted(sample.labels.items()))


class SummedFigures:
    """A collector of the figures of the first process with those of the `others` added."""

    def __init__(self, own: CollectorRegistry, others: Callable[[], Iterable[Figures]]) -> None:
        self._own = own
        self._others = others

    def describe(self) -> Iterator[Metric]:
        """Their names, for whoever asks the registry for some of them alone."""
        return iter(self._own.collect())

    def collect(self) -> Iterator[Metric]:
        added: Counter[Key] = Counter()
        for figures in self._others():
            for key, value in figures.items():
                added[key] += value  # type: ignore[assignment] # the stubs have it count wholes
        for family in self._own.collect():
            summed = Metric(family.name, family.documentation, family.type, family.unit)
            for sample in family.samples:
                more = added.pop(_key(family, sample), 0)
                summed.samples.append(sample._replace(value=sample.value + more))
            summed.samples += [
                Sample(key[1], dict(key[2]), float(value)) for key, value in added.items() if key[0] == family.name
            ]
            yield summed


def summed(own: CollectorRegistry, others: Callable[[], Iterable[Figures]]) -> CollectorRegistry:
    """A registry that has nothing else."""
    registry = CollectorRegistry()
    registry.register(SummedFigures(own, others))
    return registry
