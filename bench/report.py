"""The table that a benchmark prints."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.dataset import MIB, Tree
from bench.measure import Run


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant's figures; `stored` in bytes of one copy."""

    name: str
    version: str
    first: Run
    unchanged: Run
    restore: Run
    stored: int


def print_report(tree: Tree, results: list[Result]) -> None:
    """Print every contestant's figures, and Oort's as ratios of each peer's."""
    console = Console(width=120)
    table = Table(title=f"{tree.files} files, {tree.size / MIB:.0f} MiB; seconds (CPU seconds of the client, peak MiB)")
    for heading in ("", "first backup", "unchanged", "restore", "stored MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for result in results:
        runs = [_run(run) for run in (result.first, result.unchanged, result.restore)]
        table.add_row(f"{result.name} {result.version}", *runs, f"{result.stored / MIB:.0f}")
    ours, *peers = results
    for peer in peers:
        table.add_row(
            f"{ours.name} / {peer.name}",
            *(
                f"{one.seconds / other.seconds:.2f}"
                for one, other in (
                    (ours.first, peer.first),
                    (ours.unchanged, peer.unchanged),
                    (ours.restore, peer.restore),
                )
            ),
            f"{ours.stored / peer.stored:.2f}",
        )
    console.print(table)
    console.print("Oort: to two storage nodes over TLS, two synced copies. Peers: to a local folder, one copy.")
    if not peers:
        console.print("No peer is installed: install restic and borgbackup to see ratios.")


def _run(run: Run) -> str:
    return f"{run.seconds:.1f} ({run.cpu:.1f}, {run.peak / MIB:.0f})"
