"""A comparison as it could have been measured."""

from bench.datasets.dataset import Tree
from bench.measure import Run
from bench.results import AGAIN, FIRST, RESTORE, Comparison, Report, Result

_TITLES = {
    "oort-1": "oort, 1 copy",
    "oort-2": "oort, 2 copies",
    "restic-rest": "restic to rclone serve restic",
    "restic-local": "restic to a folder",
    "borg": "borg to a folder",
}


def a_result(key: str, seconds: float, *, stored: int = 100_000_000) -> Result:
    runs = {
        work: Run(seconds * share, seconds, 1.0, 100 << 20)
        for work, share in ((FIRST, 1), (AGAIN, 0.2), (RESTORE, 0.5))
    }
    return Result(key, _TITLES[key], "1.0", runs, stored_first=stored, stored=stored)


def a_report(*rounds: dict[str, float], dataset: str = "image", scale: float = 1.0) -> Report:
    """One dataset; each round has the seconds of the first backup by contestant."""
    results = [[a_result(key, seconds) for key, seconds in found.items()] for found in rounds]
    comparison = Comparison(dataset, "One file.", changes=False, tree=Tree(1, 2 << 30), rounds=results)
    machine = {"processor": "2 cores, some <kind>", "memory": "16 GiB"}
    return Report(machine, "2026-01-31", scale, ["borg is not installed: it takes no part"], [comparison])
