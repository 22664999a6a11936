"""backup-tool copy"""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import duration_text, emit, note, plural, printable, say, size_text, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.cli.views import index_lines
from client.errors import WARNINGS_EXIT_CODE, DamagedVault

if TYPE_CHECKING:
    from client.account.copy_run import CopyResult
    from client.copying.report import CopyTally

_PROGRESS_SECONDS = 10.0

From = Annotated[str, Option("--from", help="Name of the vault to copy from.", metavar="VAULT")]
To = Annotated[str, Option("--to", help="Name of the vault to copy to.", metavar="VAULT")]
SnapshotOption = Annotated[
    list[str] | None,
    Option("--snapshot", help="`latest`, an id, or the beginning of one; all if none is named. May be repeated."),
]


def copy(
    context: click.Context, *, source: From, target: To, snapshot: SnapshotOption = None, as_json: Json = False
) -> int:
    """Copy snapshots to another vault, all or some; the same command again goes on with one that was interrupted.

    Exit codes 3 and 8: done, but something of a vault could not be read, or a snapshot has lost something.
    """
    from client.account.copy_run import CopyView, run_copy

    view = CopyView(index_lines(as_json=as_json), Progress(as_json=as_json), CopyProgress(as_json=as_json))
    with Invocation.of(context).device() as device:
        result = run_copy(device, source, target, snapshot or (), view)
    if result.untold is not None:
        note(f"backup-tool: the job will be reported later: {result.untold}")
    for one in result.unread:
        document: dict[str, object] = {"vault": one.vault, "object": str(one.name), "reason": one.reason}
        _tell({"type": "warning", **document}, f"{one.name} of {one.vault}: {one.reason}", as_json=as_json)
    for lost, reason in result.summary.lost.items():
        text = f"snapshot {lost[:8]} is not copied: {reason}"
        _tell({"type": "lost", "snapshot": lost, "reason": reason}, text, as_json=as_json)
    with telling(f"{plural(len(result.summary.copied), 'snapshot')} copied to {target}"):
        if as_json:
            emit(_describe(result))
        else:
            _show(result, target)
    if result.summary.lost:
        return DamagedVault.exit_code
    return WARNINGS_EXIT_CODE if result.unread else 0


class CopyProgress:
    """How far the copy is: a line, or a JSON document, every ten seconds."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started = self._last = time.monotonic()

    def __call__(self, tally: "CopyTally") -> None:
        now = time.monotonic()
        if now - self._last < _PROGRESS_SECONDS:
            return
        self._last = now
        seconds = now - self._started
        if self._as_json:
            emit({"type": "progress", **asdict(tally), "seconds": round(seconds, 1)})
        else:
            note(
                f"{duration_text(seconds)}: {tally.snapshots:,} of {plural(tally.total_snapshots, 'snapshot')}; "
                f"{size_text(tally.done_bytes)} of {size_text(tally.total_bytes)}, "
                f"{size_text(tally.uploaded_bytes)} sent"
            )


def _tell(document: dict[str, object], text: str, *, as_json: bool) -> None:
    if as_json:
        emit(document)
    else:
        note(printable(f"backup-tool: {text}"))


def _describe(result: "CopyResult") -> dict[str, object]:
    summary = result.summary
    return {
        "type": "summary",
        "copied": [{"snapshot": one.snapshot.id, "copy": one.copy} for one in summary.copied],
        "present": summary.present,
        "lost": len(summary.lost),
        "new_bytes": summary.new_bytes,
        "stored_bytes": summary.stored_bytes,
        "uploaded_bytes": summary.uploaded_bytes,
        "warnings": len(result.unread),
        "job": result.job,
    }


def _show(result: "CopyResult", target: str) -> None:
    summary = result.summary
    for one in summary.copied:
        say(f"{one.snapshot.short_id} of {one.snapshot.time:%Y-%m-%d %H:%M} UTC is {one.copy[:8]} in {target}")
    say(
        f"{plural(len(summary.copied), 'snapshot')} copied, {summary.present:,} there already; "
        f"{size_text(summary.new_bytes)} of new data, {size_text(summary.uploaded_bytes)} sent"
    )
    if summary.lost:
        say(f"{plural(len(summary.lost), 'snapshot')} not copied, having lost something (named above): try `repair`.")
