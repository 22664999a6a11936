"""The figures of one comparison, as they are printed, stored as JSON and shown in docs/."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

from bench.datasets.dataset import Tree
from bench.measure import NotMeasured, Run

FIRST, AGAIN, RESTORE = "first", "again", "restore"
WORKS = (FIRST, AGAIN, RESTORE)


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant's figures with one dataset: a run of each work, and the bytes of one copy in the repository."""

    key: str
    title: str
    version: str
    runs: Mapping[str, Run]
    stored_first: int  # after the first backup
    stored: int  # after the second

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        runs = {work: Run(**run) for work, run in value["runs"].items()}
        return cls(**{**value, "runs": runs})

    @classmethod
    def middle(cls, results: Sequence[Self]) -> Self:
        """The median of every figure."""
        first = results[0]
        return cls(
            key=first.key,
            title=first.title,
            version=first.version,
            runs={work: middle_run([result.runs[work] for result in results]) for work in first.runs},
            stored_first=int(median(result.stored_first for result in results)),
            stored=int(median(result.stored for result in results)),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contestants with one dataset."""

    dataset: str
    about: str
    changes: bool  # whether the data was altered before the second backup
    tree: Tree
    rounds: Sequence[Sequence[Result]]

    @property
    def results(self) -> list[Result]:
        """Each contestant's medians."""
        return [Result.middle(list(found)) for found in zip(*self.rounds, strict=True)]

    def ratio(self, ours: str, peer: str, work: str, figure: str = "seconds") -> float | None:
        """The median over the rounds of our figure (`seconds`, `cpu`) by the peer's; None when either took no part."""
        ratios = []
        for results in self.rounds:
            by_key = {result.key: getattr(result.runs[work], figure) for result in results}
            if ours not in by_key or peer not in by_key:
                return None
            ratios.append(by_key[ours] / by_key[peer])
        return float(median(ratios))

    def stored_ratio(self, ours: str, peer: str) -> float | None:
        """Stored bytes of one copy by the peer's; None when either took no part."""
        stored = {result.key: result.stored for result in self.results}
        return stored[ours] / stored[peer] if ours in stored and peer in stored else None

    def to_json(self) -> dict[str, Any]:
        plain = {"dataset": self.dataset, "about": self.about, "changes": self.changes, "tree": asdict(self.tree)}
        return plain | {"rounds": [[result.to_json() for result in results] for results in self.rounds]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        rounds = [[Result.from_json(result) for result in results] for results in value["rounds"]]
        return cls(**{**value, "tree": Tree(**value["tree"]), "rounds": rounds})


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the benchmark: where, when, at what scale of the full size, and what it found."""

    machine: Mapping[str, str]
    date: str
    scale: float
    missing: Sequence[str]
    comparisons: Sequence[Comparison]

    @property
    def rounds(self) -> str:
        """How many there were, of each dataset where they differ."""
        said = {
            each.dataset: f"medians of {len(each.rounds)} rounds" if len(each.rounds) > 1 else "one round"
            for each in self.comparisons
        }
        alike = set(said.values())
        return alike.pop() if len(alike) == 1 else ", ".join(f"{text} of {name}" for name, text in said.items())

    def save(self, path: Path) -> None:
        whole: dict[str, Any] = {"kind": "comparison"} | {
            field.name: getattr(self, field.name) for field in fields(self)
        }
        whole["comparisons"] = [comparison.to_json() for comparison in self.comparisons]
        path.write_text(json.dumps(whole, indent=1) + "\n")

    def joined(self, other: Self) -> Self:
        """With the datasets of another run on the same machine too. Raises NotMeasured when they do not compare."""
        if (self.machine.get("processor"), self.scale) != (other.machine.get("processor"), other.scale):
            raise NotMeasured("figures of two machines, or of two sizes, do not stand on one page")
        return replace(self, comparisons=[*self.comparisons, *other.comparisons])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        own = {field.name: value[field.name] for field in fields(cls)}
        return cls(**{**own, "comparisons": [Comparison.from_json(each) for each in value["comparisons"]]})


def compares(ours: Result, peer: Result) -> bool:
    """Whether the second is a peer's, on a store of the same kind: what S3 costs is no difference of the programs."""
    return not peer.key.startswith("oort") and ours.key.endswith("-s3") == peer.key.endswith("-s3")


def middle_run(runs: Iterable[Run]) -> Run:
    """The median of every figure."""
    figures = [asdict(run) for run in runs]
    middle = {name: median(run[name] for run in figures) for name in figures[0]}
    return Run(**{**middle, "peak": int(middle["peak"])})
