"""The chart of a comparison, as SVG: every time as a ratio of restic's to its REST server.

Kept true: all bars have one scale, which starts at 0; a bar that would leave it is cut, and is marked.
"""

from collections.abc import Iterator, Sequence
from html import escape

from bench.datasets.content import MIB
from bench.results import FIRST, RESTORE, WORKS, Comparison, Report, Result
from bench.targets import PEER, TARGETS
from bench.terminal import again
from client.cli.console import plural

_NAMES, _PANEL, _GAP = 172, 240, 22  # widths
_BAR, _PITCH, _HEAD, _TOP = 13, 19, 44, 96  # heights
_MARGIN = 20
_LABEL = 88  # width of the figures behind a bar
_MOST = 2.0  # the ratio at the end of the scale
_COLOURS = {
    "oort-1": "#1d5fd1",
    "oort-2": "#7aa7f0",
    PEER: "#8a8f98",
    "restic-local": "#b4b8bf",
    "oort-s3": "#0f8a6d",
    "restic-s3": "#9aa0a8",
    "borg": "#d3d6da",
}
_INK, _FAINT, _GRID, _TARGET = "#1c2024", "#6b7280", "#e5e7eb", "#c2410c"
_TITLE = "Time, as a ratio of restic's to its REST server"
_STYLE = f"""\
text {{ font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: {_INK}; }}
.title {{ font-size: 17px; font-weight: 600; }}
.head {{ font-weight: 600; }}
.faint {{ fill: {_FAINT}; }}
.small {{ font-size: 11px; }}
.target {{ fill: {_TARGET}; }}"""


def draw(report: Report) -> str:
    """The whole file. Every comparison must have restic to its REST server."""
    width = 2 * _MARGIN + _NAMES + 3 * _PANEL + 2 * _GAP
    parts: list[str] = []
    top = _TOP
    for comparison in report.comparisons:
        block = list(_block(comparison, top))
        parts += block
        top += _HEAD + len(comparison.results) * _PITCH + 14
    height = top + 6
    size = "" if report.scale == 1 else f", at {report.scale:g} of the full size"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
            f"<title>{_TITLE}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
            _text(_MARGIN, 34, _TITLE, "title"),
            _text(
                _MARGIN,
                56,
                f"Shorter is better. {report.rounds.capitalize()}{size}; {report.machine['processor']}; {report.date}.",
                "faint",
            ),
            *_key(),
            *parts,
            "</svg>\n",
        ]
    )


def _key() -> Iterator[str]:
    """What the lines across the bars mean."""
    y = 78
    yield f'<path d="M{_MARGIN} {y - 9}v12" stroke="{_FAINT}" stroke-width="1.5"/>'
    yield _text(_MARGIN + 8, y, "as fast as restic to its REST server", "faint small")
    yield f'<path d="M{_MARGIN + 224} {y - 9}v12" stroke="{_TARGET}" stroke-width="1.5" stroke-dasharray="3 2"/>'
    yield _text(_MARGIN + 232, y, "Oort's target, with one copy", "target small")


def _block(comparison: Comparison, top: int) -> Iterator[str]:
    """One dataset: its name, then a row of bars for each contestant, a column for each work."""
    width = _NAMES + 3 * _PANEL + 2 * _GAP
    yield f'<path d="M{_MARGIN} {top}h{width}" stroke="{_GRID}"/>'
    yield _text(_MARGIN, top + 20, comparison.dataset, "head")
    size = f"{comparison.tree.size / MIB:,.0f} MiB in {plural(comparison.tree.files, 'file')}"
    yield _text(_MARGIN, top + 36, size, "faint small")
    titles = {FIRST: "first backup", RESTORE: "restore"}
    rows = top + _HEAD
    for result in comparison.results:
        yield _text(_MARGIN, _row(rows, comparison.results, result) + 11, result.title, "small")
    for column, work in enumerate(WORKS):
        left = _MARGIN + _NAMES + column * (_PANEL + _GAP)
        yield _text(left, top + 28, titles.get(work, f"second backup, {again(comparison)}"), "head")
        yield from _panel(comparison, work, left, rows)


def _panel(comparison: Comparison, work: str, left: int, top: int) -> Iterator[str]:
    results = comparison.results
    for result in results:
        ratio = comparison.ratio(result.key, PEER, work)
        if ratio is None:
            raise ValueError(f"{comparison.dataset} has no {PEER}")
        y = _row(top, results, result)
        length = _x(min(ratio, _MOST))
        yield f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{_COLOURS[result.key]}"/>'
        if ratio > _MOST:  # a white stroke through it: it goes on
            cut = left + length - 14
            yield f'<path d="M{cut:.1f} {y + _BAR + 1}l5 -{_BAR + 2}" stroke="#ffffff" stroke-width="3"/>'
        label = f"{ratio:.2f}  ({result.runs[work].seconds:.1f} s)"
        yield _text(left + _x(_MOST) + 7, y + 11, label, "small" + (" head" if result.key == "oort-1" else ""))
    bottom = top + len(results) * _PITCH - (_PITCH - _BAR) + 2
    one = left + _x(1.0)
    yield f'<path d="M{one:.1f} {top - 2}V{bottom}" stroke="{_FAINT}" stroke-width="1.5" opacity="0.55"/>'
    for target in TARGETS:
        if (target.dataset, target.figure, target.peer) == (comparison.dataset, work, PEER):
            x = left + _x(target.most)
            yield (
                f'<path d="M{x:.1f} {top - 3}V{bottom + 1}" stroke="{_TARGET}" stroke-width="1.5"'
                ' stroke-dasharray="3 2"/>'
            )


def _row(top: int, results: Sequence[Result], result: Result) -> int:
    return top + results.index(result) * _PITCH


def _x(ratio: float) -> float:
    return ratio / _MOST * (_PANEL - _LABEL)


def _text(x: float, y: float, content: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{named} xml:space="preserve">{escape(content)}</text>'
