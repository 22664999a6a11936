"""When nodes were down, disks full, and rescans under way, by the monotonic clock.

Kept true: only what the campaign itself has done explains why a command failed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

_Span = list[float]


@dataclass(slots=True)
class Outages:
    """Of a cluster of so many nodes. What still lasts has no end."""

    nodes: int
    _down: dict[str, list[_Span]] = field(default_factory=dict)
    _full: list[_Span] = field(default_factory=list)
    _rescans: list[_Span] = field(default_factory=list)

    def begin(self, node: str, now: float) -> None:
        self._down.setdefault(node, []).append([now, float("inf")])

    def end(self, node: str, now: float) -> None:
        self._down[node][-1][1] = now

    def begin_full_disk(self, now: float) -> None:
        self._full.append([now, float("inf")])

    def end_full_disk(self, now: float) -> None:
        self._full[-1][1] = now

    def begin_rescan(self, now: float) -> None:
        self._rescans.append([now, float("inf")])

    def end_rescan(self, now: float) -> None:
        self._rescans[-1][1] = now

    def all_down_between(self, start: float, end: float) -> bool:
        """Whether there was a moment in which no node was up."""
        if len(self._down) < self.nodes:
            return False
        spans = [[start, end]]
        for downs in self._down.values():
            spans = _common(spans, downs)
        return bool(spans)

    def disk_full_between(self, start: float, end: float) -> bool:
        """Whether there was a moment in which a disk was full."""
        return bool(_common([[start, end]], self._full))

    def rescanned_between(self, start: float, end: float) -> bool:
        """Whether a rescan was under way: what it has not entered yet is missing, and nothing may be removed."""
        return bool(_common([[start, end]], self._rescans))


def _common(spans: Iterable[_Span], others: Iterable[_Span]) -> list[_Span]:
    """Where spans of both overlap."""
    others = list(others)
    cut = ([max(first, begin), min(last, end)] for first, last in spans for begin, end in others)
    return [[first, last] for first, last in cut if first < last]
