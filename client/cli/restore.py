"""backup-tool restore"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.console import duration_text, emit, note, plural, say, size_text
from client.cli.invocation import AllDevices, Invocation, Json, SnapshotName, VaultName

if TYPE_CHECKING:
    from client.account.restore_run import RestoreResult

Target = Annotated[
    Path, typer.Option("--target", help="A new or empty folder; paths are restored below it.", show_default=False)
]
Include = Annotated[
    list[str],
    typer.Option("--include", help="Only what matches: a path, or a glob such as '*.txt'. May be repeated."),
]


def restore(
    context: typer.Context,
    *,
    snapshot: SnapshotName,
    target: Target,
    vault: VaultName,
    include: Include = [],  # noqa: B006 - typer reads the default, nobody changes it
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Restore a snapshot into a folder. Exit codes 3 and 8: done, but something is not as it was, or is lost."""
    from client.account.restore_run import run_restore
    from client.cli.views import view_of

    with Invocation.of(context).device() as device, view_of("Restoring", as_json=as_json) as view:
        result = run_restore(device, vault, snapshot, target, include, view, all_devices=all_devices)
    if result.untold is not None:
        note(f"backup-tool: the job will be reported later: {result.untold}")
    view.finish(
        lambda: emit(_describe(result)) if as_json else _show(result, target),
        f"snapshot {result.snapshot.id} is restored",
    )
    return result.summary.exit_code


def _describe(result: "RestoreResult") -> dict[str, object]:
    summary = result.summary
    return {
        "type": "summary",
        "snapshot": result.snapshot.id,
        "files": summary.files,
        "dirs": summary.dirs,
        "others": summary.others,
        "bytes": summary.bytes,
        "fetched_bytes": summary.fetched_bytes,
        "seconds": round(summary.seconds, 3),
        "warnings": summary.warned,
        "damaged": summary.lost,
        "job": result.job,
    }


def _show(result: "RestoreResult", target: Path) -> None:
    summary = result.summary
    rate = summary.bytes / max(summary.seconds, 0.001)
    say(
        f"Snapshot {result.snapshot.short_id} restored to {target}: {plural(summary.files, 'file')}, "
        f"{plural(summary.dirs, 'folder')}, {size_text(summary.bytes)} in {duration_text(summary.seconds)} "
        f"({size_text(rate)}/s)"
    )
    if summary.warnings:
        was = "it was" if summary.warned == 1 else "they were"
        say(f"{plural(summary.warned, 'path')} could not be restored as {was} (named above).")
    if summary.damaged:
        are = "is" if summary.lost == 1 else "are"
        say(f"{plural(summary.lost, 'path')} {are} lost in the vault and missing here (named above).")
