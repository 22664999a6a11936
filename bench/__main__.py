"""First backup, unchanged backup and restore of one mixed tree, beside the peers that are installed.

Every figure of a peer is a ratio within one run on one machine: absolute times say little on a noisy one.
"""

import argparse
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from bench.contestants import Contestant, contestants
from bench.dataset import MIB, Tree, write_mixed_tree
from bench.measure import Run
from bench.report import Result, print_report


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the tree (default 1024)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of everything; medians are shown (default 1)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a new temporary folder)")
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        folder = Path(tempfile.mkdtemp(prefix="oort-bench-", dir=arguments.folder))
        try:
            rounds.append(_round(folder, arguments.size * MIB))
        finally:
            shutil.rmtree(folder)
    tree = rounds[0][0]
    print_report(tree, [_medians(list(results)) for results in zip(*(found for _, found in rounds), strict=True)])


def _round(folder: Path, size: int) -> tuple[Tree, list[Result]]:
    source = folder / "source"
    source.mkdir()
    # In a process of its own: a command counts as large as the process that starts it was at its largest.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
        tree = maker.submit(write_mixed_tree, source, size).result()
    with contestants(folder) as all_contestants:
        return tree, [_contest(contestant, source) for contestant in all_contestants]


def _contest(contestant: Contestant, source: Path) -> Result:
    contestant.prepare()
    first = contestant.backup(source)
    unchanged = contestant.backup(source)
    target = contestant.home / "restored"
    restore = contestant.restore(target)
    shutil.rmtree(target)
    return Result(contestant.name, contestant.version, first, unchanged, restore, contestant.stored())


def _medians(results: list[Result]) -> Result:
    def middle(runs: list[Run]) -> Run:
        return Run(
            seconds=median(run.seconds for run in runs),
            cpu=median(run.cpu for run in runs),
            peak=int(median(run.peak for run in runs)),
        )

    return Result(
        name=results[0].name,
        version=results[0].version,
        first=middle([result.first for result in results]),
        unchanged=middle([result.unchanged for result in results]),
        restore=middle([result.restore for result in results]),
        stored=int(median(result.stored for result in results)),
    )


if __name__ == "__main__":
    main()
