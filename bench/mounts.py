"""A vault in a local folder, mounted by Oort and by restic: how long `ls -lR` and reading everything take.

Kept true: both mount the same repository, each anew in every round, and begin when their mount can be looked into; who
comes first changes from round to round; what they list is counted, and is as much as was backed up.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.comparison import Say, ensure_room, read, work_folder
from bench.contestant import version_of
from bench.datasets.catalogue import DATASETS
from bench.datasets.content import MIB
from bench.datasets.dataset import Tree
from bench.measure import NotMeasured, Run, measure
from bench.oort import running_stack
from bench.results import middle_run
from bench.terminal import run_text
from client.cli.console import plural
from deploy.driver import Device

LIST, READ = "ls -lR", "read everything"
MOST = 0.5  # of restic's time for LIST
_DATASET = "small"
_VAULT = "bench"
_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.02
_ROOM = 3  # times the data


@dataclass(frozen=True, slots=True)
class Mounter:
    """A program that mounts: its command for a mount point, and where the latest snapshot lies below that."""

    title: str
    command: Callable[[Path], Sequence[str]]
    env: Mapping[str, str]
    latest: str


@dataclass(frozen=True, slots=True)
class Mounts:
    """The medians of both, by title and work."""

    rounds: int
    tree: Tree
    runs: Mapping[str, Mapping[str, Run]]

    def ratio(self, work: str) -> float:
        """Oort's seconds by restic's."""
        ours, theirs = (runs[work].seconds for runs in self.runs.values())
        return ours / theirs

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "mounts"} | asdict(self), indent=1) + "\n")

    def print(self) -> None:
        tree = f"{plural(self.tree.files, 'file')}, {self.tree.size / MIB:,.0f} MiB"
        table = Table(title=f"mounted: {tree}; medians of {self.rounds}: seconds (processor seconds, peak MiB)")
        for heading in ("", LIST, READ):
            table.add_column(heading, justify="right" if heading else "left")
        for title, runs in self.runs.items():
            table.add_row(title, run_text(runs[LIST]), run_text(runs[READ]))
        table.add_row("ratio of seconds", f"{self.ratio(LIST):.2f}", f"{self.ratio(READ):.2f}")
        Console(width=120, highlight=False).print(table)
        verdict = "reached" if self.ratio(LIST) <= MOST else "missed"
        print(f"target: {LIST} in at most {MOST:g} of restic's time: {verdict}")


def compare_mounts(*, scale: float, rounds: int, place: Path | None, say: Say) -> Mounts:
    """Measure. Raises NotMeasured, also where one of both cannot mount."""
    for tool in ("restic", "fusermount3"):
        if shutil.which(tool) is None:
            raise NotMeasured(f"{tool} is not installed: nothing can be compared")
    with work_folder(place) as folder:
        source = DATASETS[_DATASET].place(folder, scale)
        tree = read(source)
        ensure_room(folder, _ROOM * tree.size)
        say(f"mounts, {_DATASET}: {plural(tree.files, 'file')}, {tree.size / 1e6:,.0f} MB")
        with _mounters(folder, source) as both:
            found: dict[str, dict[str, list[Run]]] = {one.title: {LIST: [], READ: []} for one in both}
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                for one in both if number % 2 else both[::-1]:
                    for work, run in _round(one, folder, source, tree.files).items():
                        found[one.title][work].append(run)
        medians = {
            title: {work: middle_run(runs) for work, runs in by_work.items()} for title, by_work in found.items()
        }
        return Mounts(rounds, tree, medians)


@contextmanager
def _mounters(folder: Path, source: Path) -> Iterator[list[Mounter]]:
    """Oort and restic, with `source` backed up where both find it."""
    with running_stack(folder / "server") as operator:
        device = Device(folder / "device")
        password = secrets.token_urlsafe(24)
        operator.add_user("bench", password)
        device.log_in(operator, "bench", password)
        device.tool.ok("vault", "add", "--local", str(folder / "vault"), "--name", _VAULT)
        device.backup(_VAULT, source)
        key = device.recovery(_VAULT)["password"]
        theirs = {**os.environ, "HOME": str(folder), "RESTIC_PASSWORD": key, "RESTIC_REPOSITORY": str(folder / "vault")}
        yield [
            Mounter(
                f"oort {version_of(*device.tool.line('version'))}",
                lambda at: device.tool.line("mount", str(at), "--vault", _VAULT),
                dict(device.tool.env),
                "dates/latest",
            ),
            Mounter(
                f"restic {version_of('restic', 'version')}",
                lambda at: ["restic", "mount", str(at)],
                theirs,
                "snapshots/latest",
            ),
        ]


def _round(mounter: Mounter, folder: Path, source: Path, files: int) -> dict[str, Run]:
    listed = folder / "listed"
    with _mounted(mounter, folder) as (at, pid):
        where = at / mounter.latest / source.relative_to("/")
        listing = ["sh", "-c", 'ls -lR "$0/" >"$1"', str(where), str(listed)]
        reading = ["sh", "-c", 'find "$0/" -type f -exec cat {} + >/dev/null', str(where)]
        found = {
            LIST: measure(listing, os.environ, folder / "log", [pid]),
            READ: measure(reading, os.environ, folder / "log", [pid]),
        }
    seen = sum(line.startswith("-") for line in listed.read_text(errors="replace").splitlines())
    if seen != files:
        raise NotMeasured(f"{mounter.title} listed {plural(seen, 'file')} of {files:,}")
    return found


@contextmanager
def _mounted(mounter: Mounter, folder: Path) -> Iterator[tuple[Path, int]]:
    """The mount point and the pid. Raises NotMeasured."""
    at = folder / "mount"
    at.mkdir(exist_ok=True)
    with (folder / "mount.log").open("ab") as log:
        process = subprocess.Popen(
            mounter.command(at), env=dict(mounter.env), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + _PATIENCE_SECONDS
        while not (at.is_mount() and any(at.iterdir())):
            if process.poll() is not None or time.monotonic() > end:
                raise NotMeasured(f"{mounter.title} does not mount:\n{(folder / 'mount.log').read_text()[-2_000:]}")
            time.sleep(_POLL_SECONDS)
        yield at, process.pid
    finally:
        subprocess.run(["fusermount3", "-u", "-z", "-q", str(at)], check=False)
        process.terminate()
        process.wait()
