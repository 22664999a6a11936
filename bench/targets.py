"""What Oort aims for beside restic, to its REST server or to a store of both, and whether a comparison reached it."""

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
    ours: str = JUDGED
    beside: str | None = BESIDE
    peer: str = PEER


def _on_s3(dataset: str, figure: str, title: str, most: float) -> Target:
    return Target(dataset, figure, f"{title}, both to S3", most, "oort-s3", None, "restic-s3")


TARGETS = (
    Target("image", FIRST, "image, first backup", 0.5),
    Target("small", FIRST, "small files, first backup", 0.5),
    Target("small", AGAIN, "small files, nothing changed", 0.33),
    Target("image", RESTORE, "image, restore", 0.67),
    Target("small", RESTORE, "small files, restore", 0.67),
    Target("image", _STORED, "image, stored size", 1.05),
    Target("small", _STORED, "small files, stored size", 1.05),
    _on_s3("image", FIRST, "image, first backup", 0.5),
    _on_s3("small", FIRST, "small files, first backup", 0.5),
    _on_s3("image", RESTORE, "image, restore", 0.67),
    _on_s3("small", RESTORE, "small files, restore", 0.67),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with the ratio that is judged, of one copy, and of two, which stands beside it."""

    target: Target
    ratio: float
    beside: float | None

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target.most


def verdicts(comparisons: Sequence[Comparison]) -> Iterator[Verdict]:
    """Of those targets for which everything was measured."""
    by_name = {comparison.dataset: comparison for comparison in comparisons}
    for target in TARGETS:
        if target.dataset in by_name:
            comparison = by_name[target.dataset]
            ratio = _ratio(comparison, target, target.ours)
            beside = _ratio(comparison, target, target.beside) if target.beside else None
            if ratio is not None and (beside is not None or target.beside is None):
                yield Verdict(target, ratio, beside)


def _ratio(comparison: Comparison, target: Target, ours: str) -> float | None:
    if target.figure == _STORED:
        return comparison.stored_ratio(ours, target.peer)
    return comparison.ratio(ours, target.peer, target.figure)
