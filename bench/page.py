"""Figures put into docs/benchmarks.md, between two marks that stay, and the chart beside it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.chart import draw
from bench.datasets.content import MIB
from bench.growth import Growth
from bench.measure import NotMeasured
from bench.node.figures import NodeFigures
from bench.profiling import Profile
from bench.results import WORKS, Comparison, Report, compares
from bench.targets import PEER, verdicts
from bench.terminal import again, beside_text, ratio_text, run_text
from client.cli.console import plural

PAGE, CHART = "benchmarks.md", "benchmarks.svg"
BEGIN, END = "<!-- figures: made by `make bench-report` -->", "<!-- end of figures -->"


def write(docs: Path, figures: Sequence[Path]) -> None:
    """Show what `--json` files hold: comparisons, which may come from several runs, then the rest in their order.

    Raises NotMeasured for one that cannot be shown.
    """
    page = docs / PAGE
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NotMeasured(f"{page} lacks the lines {BEGIN} and {END}")
    report: Report | None = None
    lines: list[str] = []
    for path in figures:
        value = json.loads(path.read_text())
        match value.get("kind"):
            case "comparison":
                found = Report.from_json(value)
                report = report.joined(found) if report else found
            case "growth":
                lines += growth_lines(Growth.from_json(value))
            case "node":
                lines += NodeFigures.from_json(value).lines()
            case "profile":
                profile = Profile.from_json(value)
                lines += ["", f"### Where the time goes: {profile.title}", "", "```", *profile.lines(), "```"]
            case _:
                raise NotMeasured(f"{path} holds no figures of a benchmark")
    if report:
        (docs / CHART).write_text(_chart(report))
        lines = [*comparison_lines(report), *lines]
    page.write_text("\n".join([before + BEGIN, *lines, "", END + after]))


def _chart(report: Report) -> str:
    for comparison in report.comparisons:
        if all(result.key != PEER for result in comparison.results):
            raise NotMeasured(
                f"{comparison.dataset} has nothing of restic to its REST server: install restic and rclone"
            )
    return draw(report)


def comparison_lines(report: Report) -> Iterator[str]:
    """The chart, the targets, and a table for each dataset."""
    yield from ("", f"![Times as ratios of restic's to its REST server]({CHART})", "", "### Machine", "")
    size = "the full size" if report.scale == 1 else f"{report.scale:g} of the full size: too small for a verdict"
    yield f"Measured on {report.date}: {report.rounds}, at {size}."
    yield ""
    for name, value in report.machine.items():
        yield f"- {name}: {value}"
    for line in report.missing:
        yield f"- {line}"
    found = list(verdicts(report.comparisons))
    if found:
        yield from (
            "",
            "### Targets",
            "",
            "Oort by restic to its REST server, or both to one server of S3. One copy is judged.",
            "",
        )
        yield from ("| | target | 1 copy | | 2 copies |", "|---|---|---|---|---|")
        for verdict in found:
            said = "reached" if verdict.reached else "**not reached**"
            figures = f"{verdict.target.most} | {verdict.ratio:.2f} | {said} | {beside_text(verdict)}"
            yield f"| {verdict.target.title} | {figures} |"
    for comparison in report.comparisons:
        yield from _dataset_lines(comparison)


def _dataset_lines(comparison: Comparison) -> Iterator[str]:
    tree = comparison.tree
    yield from (
        "",
        f"### {comparison.dataset}: {plural(tree.files, 'file')}, {tree.size / MIB:,.0f} MiB",
        "",
        comparison.about,
    )
    yield from ("", f"| | first backup | {again(comparison)} | restore | stored |", "|---|---|---|---|---|")
    for result in comparison.results:
        runs = " | ".join(run_text(result.runs[work]) for work in WORKS)
        yield f"| {result.title} ({result.version}) | {runs} | {result.stored / MIB:,.0f} |"
    ours = [result for result in comparison.results if result.key.startswith("oort")]
    for peer in comparison.results:
        for mine in (mine for mine in ours if compares(mine, peer)):
            ratios = " | ".join(ratio_text(comparison, mine.key, peer.key, work) for work in WORKS)
            stored = comparison.stored_ratio(mine.key, peer.key)
            yield f"| {mine.title} / {peer.title} | {ratios} | {'' if stored is None else f'{stored:.2f}'} |"


def growth_lines(growth: Growth) -> Iterator[str]:
    """A table with a row for each step."""
    rounds = f"Medians of {growth.rounds} rounds." if growth.rounds > 1 else "One round."
    yield from ("", "### Growth", "", f"Oort alone, one copy, a new vault each time. {rounds}", "")
    yield from ("| | files | MiB | first backup | unchanged | restore |", "|---|---|---|---|---|---|")
    for step in growth.steps:
        runs = " | ".join(run_text(step.runs[work]) for work in WORKS)
        yield f"| {step.dataset} | {step.tree.files:,} | {step.tree.size / MIB:,.1f} | {runs} |"
