"""How time and memory grow with the data: Oort alone, one copy, a new vault at each step."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.comparison import Say, ensure_room, forget_removals, read, work_folder
from bench.datasets.content import GIB, MIB
from bench.datasets.dataset import Tree
from bench.datasets.files import TINY
from bench.datasets.image import IMAGE
from bench.measure import Run
from bench.oort import Oort, running_stack
from bench.results import AGAIN, FIRST, RESTORE, WORKS, middle_run
from bench.terminal import run_text
from client.cli.console import plural

_GIBS = (1, 2, 4, 8, 16)
_FILES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_SHORT = 128  # the short form takes so many times less
_FULL_GIB, _FULL_FILES = 2, 63_000  # of the datasets
_FILE_ON_DISK = 8192  # of a tiny file, its inode, and its share of the vault


@dataclass(frozen=True, slots=True)
class Step:
    """The medians at one size."""

    dataset: str
    tree: Tree
    runs: dict[str, Run]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Step":
        runs = {work: Run(**run) for work, run in value["runs"].items()}
        return cls(value["dataset"], Tree(**value["tree"]), runs)


@dataclass(frozen=True, slots=True)
class Growth:
    """All steps; each figure is the median of `rounds`."""

    rounds: int
    steps: Sequence[Step]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "growth"} | asdict(self), indent=1) + "\n")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Growth":
        return cls(value["rounds"], [Step.from_json(step) for step in value["steps"]])

    def print(self) -> None:
        table = Table(
            title=f"growth, medians of {self.rounds}: seconds (processor seconds of client + servers, peak MiB)"
        )
        for heading in ("", "files", "MiB", "first backup", "unchanged", "restore"):
            table.add_column(heading, justify="right" if heading else "left")
        for step in self.steps:
            runs = [run_text(step.runs[work]) for work in WORKS]
            table.add_row(step.dataset, f"{step.tree.files:,}", f"{step.tree.size / MIB:,.1f}", *runs)
        Console(width=120, highlight=False).print(table)


def grow(*, short: bool, rounds: int, place: Path | None, say: Say) -> Growth:
    """Measure all steps. Raises NotMeasured, for want of room too."""
    less = _SHORT if short else 1
    plan = [(IMAGE, size / _FULL_GIB / less, int(size * 2.5 * GIB)) for size in _GIBS]
    plan += [(TINY, count / _FULL_FILES / less, 2 * count * _FILE_ON_DISK) for count in _FILES]
    steps = []
    for dataset, scale, room in plan:
        begun = time.monotonic()
        with work_folder(place) as folder:
            ensure_room(folder, room // less)
            source = dataset.place(folder, scale)
            tree = read(source)
            say(f"growth, {dataset.name}: {plural(tree.files, 'file')}, {tree.size / 1e6:,.0f} MB")
            found = []
            for number in range(rounds):
                found.append(_round(folder / str(number), source, None if short else begun))
                begun = time.monotonic()
        runs = {work: middle_run([one[work] for one in found]) for work in WORKS}
        steps.append(Step(dataset.name, tree, runs))
    return Growth(rounds, steps)


def _round(folder: Path, source: Path, begun: float | None) -> dict[str, Run]:
    """With a new vault on a new stack, which are removed; the last removal was before `begun`."""
    with running_stack(folder) as operator:
        oort = Oort(folder / "oort", operator, copies=1)
        oort.prepare()
        runs = {FIRST: oort.backup(source), AGAIN: oort.backup(source)}
        if begun is not None:
            forget_removals(begun, Tree.of(source).files)
        runs[RESTORE] = oort.restore(folder / "restored")
    shutil.rmtree(folder)
    return runs
