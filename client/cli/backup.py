"""backup-tool backup"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.console import duration_text, emit, note, plural, say, size_text
from client.cli.invocation import Invocation, Json, VaultName

if TYPE_CHECKING:
    from client.account.backup_run import BackupResult

WARNINGS_EXIT_CODE = 3
Tags = Annotated[list[str], typer.Option("--tag", help="A tag for the snapshot. May be repeated.")]
Note = Annotated[str, typer.Option("--note", help="A note on the snapshot.")]
Paths = Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...", show_default=False)]


def backup(  # noqa: PLR0917 - typer reads them by name
    context: typer.Context,
    paths: Paths,
    vault: VaultName,
    tag: Tags = [],  # noqa: B006 - typer reads the default, nobody changes it
    note_text: Note = "",
    as_json: Json = False,
) -> int:
    """Back up files and folders to a vault. Exit code 3: done, but not everything could be read."""
    from client.account.backup_run import run_backup
    from client.account.tagging import checked_tags, note_tags
    from client.cli.views import view_of

    tags = (*checked_tags(tag), *note_tags(note_text))
    with Invocation.of(context).device() as device, view_of("Backing up", as_json=as_json) as view:
        result = run_backup(device, vault, [os.fsencode(path) for path in paths], view, tags)
    if result.untold is not None:
        note(f"backup-tool: the job will be reported later: {result.untold}")
    view.finish(
        lambda: emit(_describe(result)) if as_json else _show(result), f"snapshot {result.summary.snapshot.id} exists"
    )
    return WARNINGS_EXIT_CODE if result.summary.warnings else 0


def _describe(result: "BackupResult") -> dict[str, object]:
    summary = result.summary
    return {
        "type": "summary",
        "snapshot": summary.snapshot.id,
        "parent": summary.parent.id if summary.parent else None,
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "dirs": summary.dirs,
        "total_files": summary.total_files,
        "total_bytes": summary.total_bytes,
        "new_bytes": summary.new_bytes,
        "stored_bytes": summary.stored_bytes,
        "uploaded_bytes": summary.uploaded_bytes,
        "seconds": round(summary.seconds, 3),
        "warnings": summary.warned,
        "job": result.job,
    }


def _show(result: "BackupResult") -> None:
    summary = result.summary
    rate = summary.total_bytes / max(summary.seconds, 0.001)
    say(
        f"Snapshot {summary.snapshot.id[:8]}: {plural(summary.total_files, 'file')}, "
        f"{size_text(summary.total_bytes)} in {duration_text(summary.seconds)} ({size_text(rate)}/s)"
    )
    say(
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_unmodified:,} unchanged; "
        f"{size_text(summary.new_bytes)} of new data, {size_text(summary.uploaded_bytes)} sent"
    )
    if summary.warnings:
        is_one = summary.warned == 1
        say(
            f"{plural(summary.warned, 'path')} could not be backed up as {'it is' if is_one else 'they are'} "
            "(named above)."
        )
