"""Rounds of one dataset through all contestants.

Kept true: within a round the contestants take turns with the same data, each work by all of them before the next work,
and each round begins with another one; the data is read before each of them (borg leaves none of it in memory), and
what was restored is counted. Nobody pays for what came before: nothing is removed before a restore, what was removed
before the round is forgotten by then, and what was written is on the disk.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contestant import Contestant
from bench.datasets.dataset import Dataset, Tree
from bench.measure import NotMeasured, Run
from bench.oort import Oort, running_stack
from bench.peers import peers
from bench.results import AGAIN, FIRST, RESTORE, Comparison, Result
from bench.stores import on_s3
from client.cli.console import plural

Say = Callable[[str], None]
_COPIES = (1, 2)
_PIECE = 1 << 20
_ROOM = 16  # times the data: eight repositories of it, and each contestant's restored one
# ext4 looks at each inode that was removed so many seconds ago or less before it gives one to a new file: who makes
# many files after a tree of as many was removed takes several times as long.
_RECENTLY_REMOVED = 360
_MANY_FILES = 1000


def compare(dataset: Dataset, *, scale: float, rounds: int, place: Path | None, say: Say) -> Comparison:
    """Measure. Raises NotMeasured when a contestant fails or does not give back what it was given."""
    found = []
    tree = Tree(0, 0)
    for number in range(rounds):
        begun = time.monotonic()
        with work_folder(place) as folder:
            source = dataset.place(folder, scale)
            tree = read(source)
            ensure_room(folder, _ROOM * tree.size)
            size = f"{plural(tree.files, 'file')}, {tree.size / 1e6:,.0f} MB"
            say(f"{dataset.name}: {size}; round {number + 1} of {rounds}")
            with contestants(folder) as everyone:
                found.append(_round(dataset, source, everyone, number, begun if scale == 1 else None))
    return Comparison(dataset.name, dataset.about, dataset.change is not None, tree, found)


@contextmanager
def work_folder(place: Path | None) -> Iterator[Path]:
    """A new folder below `place`, or below the temporary folder, that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="oort-bench-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.sync()  # what is removed on the disk too holds up new files for a minute, else for six


def ensure_room(folder: Path, size: int) -> None:
    """Raises NotMeasured when the disk has fewer bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise NotMeasured(f"{folder.parent} has {free / 1e9:.1f} GB free and {size / 1e9:.1f} are needed: give --place")


def read(source: Path) -> Tree:
    """Read everything once, so that every contestant finds it in memory, and none finds the disk busy with it."""
    os.sync()
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                while file.read(_PIECE):
                    pass
    return Tree.of(source)


@contextmanager
def contestants(folder: Path) -> Iterator[list[Contestant]]:
    """Oort with one copy, with two, and on S3, then the peers that are there; their servers run meanwhile."""
    with ExitStack() as running:
        operator = running.enter_context(running_stack(folder))
        ours = [Oort(folder / f"oort-{copies}", operator, copies) for copies in _COPIES]
        others = running.enter_context(peers(folder))
        with_restic = shutil.which("restic") is not None
        yield [*ours, *running.enter_context(on_s3(folder, operator, with_restic=with_restic)), *others]


def forget_removals(begun: float, files: int) -> None:
    """Wait until what was removed before `begun`, in monotonic seconds, holds up no restore of so many files."""
    if files >= _MANY_FILES:
        time.sleep(max(0, begun + _RECENTLY_REMOVED - time.monotonic()))


def _round(
    dataset: Dataset, source: Path, everyone: list[Contestant], number: int, begun: float | None
) -> list[Result]:
    turn = number % len(everyone)
    order = [*everyone[turn:], *everyone[:turn]]
    runs: dict[str, dict[str, Run]] = {contestant.key: {} for contestant in everyone}
    stored_first = {}
    for contestant in order:
        contestant.prepare()
        read(source)
        runs[contestant.key][FIRST] = contestant.backup(source)
        stored_first[contestant.key] = contestant.stored()
    if dataset.change is not None:
        dataset.change(source)
    for contestant in order:
        tree = read(source)
        runs[contestant.key][AGAIN] = contestant.backup(source)
    if begun is not None:
        forget_removals(begun, tree.files)
    for contestant in order:
        os.sync()
        runs[contestant.key][RESTORE] = contestant.restore(contestant.home / "restored")
        restored = Tree.of(contestant.home / "restored")
        if restored != tree:
            raise NotMeasured(f"{contestant.title} was given {tree} and restored {restored}")
    return [
        Result(
            key=contestant.key,
            title=contestant.title,
            version=contestant.version,
            runs=runs[contestant.key],
            stored_first=stored_first[contestant.key],
            stored=contestant.stored(),
        )
        for contestant in everyone
    ]
