"""What was seen of a node under load, beside rclone, and what it should be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.datasets.content import MIB

PUTS, GETS = "puts", "gets"
_LEAST_RATIO = {PUTS: 0.25, GETS: 0.4}
_SLOWEST_OF_MEAN = 0.2
_MOST_MEMORY = 1_000_000_000
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Phase:
    """All clients at work at once: bytes in all, wall seconds, the server's processor seconds, each client's seconds.

    `cpu` has the node's own, and `others` that of what it needs: the rest of the stack, Postgres above all.
    """

    size: int
    seconds: float
    cpu: float
    others: float
    clients: Sequence[float]

    @property
    def rate(self) -> float:
        """Bytes a second, all clients together."""
        return self.size / self.seconds

    @property
    def cpu_of_gb(self) -> float:
        """Processor seconds of the server for 10^9 bytes."""
        return (self.cpu + self.others) / (self.size / _GB)

    @property
    def slowest(self) -> float:
        """The rate of the slowest client by the mean of all."""
        rates = [1 / seconds for seconds in self.clients]
        return min(rates) / fmean(rates)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """Phases by contestant and work; bytes of proportional memory (PSS) of the node's processes at most, by phase."""

    clients: int
    idle: int
    oort: Mapping[str, Phase]
    rclone: Mapping[str, Phase]
    memory: Mapping[str, int]
    workers: int = 1

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "node"} | asdict(self), indent=1) + "\n")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NodeFigures":
        phases = {name: {work: Phase(**each) for work, each in value[name].items()} for name in ("oort", "rclone")}
        workers = value.get("workers", 1)
        return cls(value["clients"], value["idle"], memory=value["memory"], workers=workers, **phases)

    def ratio(self, work: str) -> float | None:
        """Of the rates; None without rclone."""
        return self.oort[work].rate / self.rclone[work].rate if work in self.rclone else None

    def verdicts(self) -> Iterator[tuple[str, str, str, bool]]:
        """What, what it should be, what it is, and whether that is reached."""
        for work, least in _LEAST_RATIO.items():
            ratio = self.ratio(work)
            if ratio is not None:
                yield f"{work}, rate by rclone's", f"at least {least:g}", f"{ratio:.2f}", ratio >= least
        for work, phase in self.oort.items():
            found, reached = f"{phase.slowest:.2f}", phase.slowest >= _SLOWEST_OF_MEAN
            yield f"{work}, slowest client by the mean", f"at least {_SLOWEST_OF_MEAN}", found, reached
        most = max(self.memory.values())
        yield (
            "memory of the node (PSS)",
            f"under {_MOST_MEMORY / 1e6:,.0f} MB",
            f"{most / 1e6:,.0f} MB",
            most < _MOST_MEMORY,
        )

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each contestant and work: seconds, MB/s, processor seconds a GB (the node's own), MiB at most."""
        ours = "oort, one node" if self.workers == 1 else f"oort, one node of {self.workers} workers"
        for name, phases in ((ours, self.oort), ("rclone serve restic", self.rclone)):
            for work, phase in phases.items():
                own = phase.cpu / (phase.size / _GB)
                memory = f"{self.memory[work] / MIB:,.0f}" if phases is self.oort else ""
                rate = f"{phase.rate / 1e6:,.0f}"
                yield name, work, f"{phase.seconds:.1f}", rate, f"{phase.cpu_of_gb:.1f} ({own:.1f})", memory
        yield f"oort, {self.idle:,} idle sessions", "", "", "", "", f"{self.memory['idle'] / MIB:,.0f}"

    def print(self) -> None:
        console = Console(width=120, highlight=False)
        headings = ("", "", "seconds", "MB/s", "CPU s/GB (node)", "PSS MiB")
        title = f"{self.clients} clients, {self.oort[PUTS].size / self.clients / MIB:,.0f} MiB each"
        console.print(_table(title, headings, self.rows()))
        said = [(*found[:3], "reached" if found[3] else "not reached") for found in self.verdicts()]
        console.print(_table("targets", ("", "target", "found", ""), said))

    def lines(self) -> Iterator[str]:
        """For docs/benchmarks.md."""
        yield from ("", "### A node under load", "")
        yield (
            f"{self.clients} clients put {self.oort[PUTS].size / self.clients / MIB:,.0f} MiB each as fast as they can,"
            " in packs of 16 MiB, to one node with one copy, and read them again; then"
            f" {self.idle:,} sessions are open and idle. rclone neither encrypts nor syncs nor keeps a catalogue."
        )
        yield from ("", "| | | seconds | MB/s | CPU s/GB (node) | PSS MiB |", "|---|---|---|---|---|---|")
        for row in self.rows():
            yield f"| {' | '.join(row)} |"
        yield from ("", "| | target | found | |", "|---|---|---|---|")
        for what, target, found, reached in self.verdicts():
            yield f"| {what} | {target} | {found} | {'reached' if reached else '**not reached**'} |"


def _table(title: str, headings: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
