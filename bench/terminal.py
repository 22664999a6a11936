"""The tables that a benchmark prints."""

from rich.console import Console
from rich.table import Table

from bench.datasets.content import MIB
from bench.measure import Run
from bench.results import WORKS, Comparison, Report, compares
from bench.targets import PEER, Verdict, verdicts
from client.cli.console import plural

LEGEND = (
    "Seconds (processor seconds of client + servers, peak MiB of memory that the client has made); stored MiB.\n"
    "Ratios of seconds (of processor seconds). Oort: to storage nodes over TLS, synced; restic: to rclone over HTTP."
)
_WIDTH = 132


def print_report(report: Report) -> None:
    """Print every contestant's figures, Oort's as ratios of each peer's, and the targets."""
    console = Console(width=_WIDTH, highlight=False)
    for comparison in report.comparisons:
        console.print(_figures(comparison))
        console.print(_ratios(comparison))
    console.print(LEGEND)
    console.print(
        f"{report.rounds.capitalize()}, at {report.scale:g} of the full size. "
        + "; ".join(f"{name}: {value}" for name, value in report.machine.items())
    )
    print_targets(console, report)
    for line in report.missing:
        console.print(line)


def _figures(comparison: Comparison) -> Table:
    title = f"{comparison.dataset}: {plural(comparison.tree.files, 'file')}, {comparison.tree.size / MIB:,.0f} MiB"
    table = _table(title, "", "first backup", again(comparison), "restore", "stored")
    for result in comparison.results:
        runs = [run_text(result.runs[work]) for work in WORKS]
        table.add_row(f"{result.title} {result.version}", *runs, f"{result.stored / MIB:,.0f}")
    return table


def _ratios(comparison: Comparison) -> Table:
    results = comparison.results
    table = _table("", "", "first backup", again(comparison), "restore", "stored")
    for ours in (result for result in results if result.key.startswith("oort")):
        for peer in (result for result in results if compares(ours, result)):
            cells = [ratio_text(comparison, ours.key, peer.key, work) for work in WORKS]
            stored = comparison.stored_ratio(ours.key, peer.key)
            table.add_row(f"{ours.title} / {peer.title}", *cells, "" if stored is None else f"{stored:.2f}")
    return table


def print_targets(console: Console, report: Report) -> None:
    """Each target that was measured, and whether it was reached."""
    found = list(verdicts(report.comparisons))
    if not found:
        return
    title = f"targets: Oort by restic to its REST server ({PEER}), or both to S3"
    if report.scale != 1:
        title += "; at this size they say little"
    table = _table(title, "", "target", "1 copy", "", "2 copies, beside")
    for verdict in found:
        said = "reached" if verdict.reached else "not reached"
        cells = (f"{verdict.target.most:.2f}", f"{verdict.ratio:.2f}", said, beside_text(verdict))
        table.add_row(verdict.target.title, *cells)
    console.print(table)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def beside_text(verdict: Verdict) -> str:
    """The ratio of two copies, where there is one."""
    return "" if verdict.beside is None else f"{verdict.beside:.2f}"


def again(comparison: Comparison) -> str:
    """What the second backup finds."""
    return "changed" if comparison.changes else "unchanged"


def run_text(run: Run) -> str:
    """Seconds, and in brackets what they cost."""
    return f"{run.seconds:.1f} ({run.client_cpu:.1f}+{run.server_cpu:.1f}, {run.peak / MIB:.0f})"


def ratio_text(comparison: Comparison, ours: str, peer: str, work: str) -> str:
    """The ratio of the seconds, and in brackets of the processor seconds."""
    seconds, cpu = (comparison.ratio(ours, peer, work, figure) for figure in ("seconds", "cpu"))
    return "" if seconds is None or cpu is None else f"{seconds:.2f} ({cpu:.2f})"
