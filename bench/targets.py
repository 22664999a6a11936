"""What Oort aims for beside restic to its REST server, and whether a comparison reached it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.results import AGAIN, FIRST, RESTORE, Comparison

JUDGED, BESIDE, PEER = "oort-1", "oort-2", "restic-rest"
_STORED = "stored"


@dataclass(frozen=True, slots=True)
class Target:
    """The ratio of one figure with one dataset may be `most`."""

    dataset: str
    figure: str  # a work, or _STORED
    title: str
    most: float


TARGETS = (
    Target("image", FIRST, "image, first backup", 0.5),
    Target("small", FIRST, "small files, first backup", 0.5),
    Target("small", AGAIN, "small files, nothing changed", 0.33),
    Target("image", RESTORE, "image, restore", 0.67),
    Target("small", RESTORE, "small files, restore", 0.67),
    Target("image", _STORED, "image, stored size", 1.05),
    Target("small", _STORED, "small files, stored size", 1.05),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with the ratio of one copy, which is judged, and of two, which stands beside it."""

    target: Target
    ratio: float
    beside: float

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target.most


def verdicts(comparisons: Sequence[Comparison]) -> Iterator[Verdict]:
    """Of those targets for which everything was measured."""
    by_name = {comparison.dataset: comparison for comparison in comparisons}
    for target in TARGETS:
        if target.dataset in by_name:
            ratios = [_ratio(by_name[target.dataset], ours, target.figure) for ours in (JUDGED, BESIDE)]
            if ratios[0] is not None and ratios[1] is not None:
                yield Verdict(target, ratios[0], ratios[1])


def _ratio(comparison: Comparison, ours: str, figure: str) -> float | None:
    if figure == _STORED:
        return comparison.stored_ratio(ours, PEER)
    return comparison.ratio(ours, PEER, figure)
