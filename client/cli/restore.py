"""backup-tool restore"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import duration_text, emit, note, plural, printable, say, size_text, telling
from client.cli.invocation import AllDevices, Invocation, Json, SnapshotName
from client.cli.parameters import Option
from client.errors import OortError, UsageError
from client.restore.request import Overwrite, RestoreOptions
from client.restore.selection import Patterns

if TYPE_CHECKING:
    from client.account.restore_run import RestoreResult
    from client.restore.deletion import Deletions

Target = Annotated[
    str,
    Option(
        "--target",
        help="The folder below which paths are restored: new or empty, or the same restore unfinished, or with "
        "--overwrite any.",
        metavar="FOLDER",
    ),
]
VaultNames = Annotated[
    list[str],
    Option("--vault", help="Name of the vault. May be repeated: the first that has the snapshot is read."),
]
Include = Annotated[
    list[str],
    Option("--include", help="Only what matches: a path, or a glob such as '*.txt'. May be repeated."),
]
IInclude = Annotated[list[str], Option("--iinclude", help="As --include, capitals and small letters alike.")]
Exclude = Annotated[list[str], Option("--exclude", help="Not what matches, nor what is below it.")]
IExclude = Annotated[list[str], Option("--iexclude", help="As --exclude, capitals and small letters alike.")]
OverwriteOption = Annotated[
    Overwrite | None,
    Option("--overwrite", help="Restore onto existing data, and when that gives way."),
]
Delete = Annotated[bool, Option("--delete", help="Remove what the snapshot has not, below what it holds.")]
Yes = Annotated[bool, Option("--yes", help="Delete without asking.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]
Verify = Annotated[bool, Option("--verify", help="Read back from the disk what was written, and compare.")]


def restore(
    context: click.Context,
    *,
    snapshot: SnapshotName,
    target: Target,
    vault: VaultNames,
    include: Include = [],  # noqa: B006 - nobody changes them
    iinclude: IInclude = [],  # noqa: B006
    exclude: Exclude = [],  # noqa: B006
    iexclude: IExclude = [],  # noqa: B006
    overwrite: OverwriteOption = None,
    delete: Delete = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    verify: Verify = False,
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Restore a snapshot into a folder; the same command again goes on with a restore that was interrupted.

    Exit codes 3 and 8: done, but something is not as it was, or is lost.
    """
    if delete and overwrite is None:
        raise UsageError(detail="--delete is for a target with something in it: give --overwrite too")
    if not target:
        raise UsageError(detail="--target is empty: name a folder; the working folder is '.'")
    from client.account.choosing import first_that_answers
    from client.account.restore_run import RestoreOrder, run_restore
    from client.cli.views import view_of

    patterns = Patterns(include, exclude, iinclude, iexclude)
    options = RestoreOptions(patterns, overwrite, dry_run=dry_run, verify=verify)
    order = RestoreOrder(snapshot, Path(target), options, deletes=delete, all_devices=all_devices)

    def agree(deletions: "Deletions") -> None:
        _agree(deletions, order.target, yes=yes)

    unheard: list[str] = []

    def tell_other(name: str, error: OortError, *, may_have_newer: bool) -> None:
        which = ", which may have a newer snapshot" if may_have_newer else ""
        note(f"backup-tool: not from the vault {printable(name)}{which}: {printable(str(error))}")
        if may_have_newer:
            unheard.append(name)

    with Invocation.of(context).device() as device, view_of("Restoring", as_json=as_json) as view:
        name = first_that_answers(device, vault, snapshot, tell_other, all_devices=all_devices)
        result = run_restore(device, name, order, view, agree)
    if result.untold is not None:
        note(f"backup-tool: the job will be reported later: {result.untold}")
    with nullcontext() if dry_run else telling(f"snapshot {result.snapshot.id} is restored"):
        view.finish(
            lambda: emit(_describe(result, name, unheard)) if as_json else _show(result, order.target, dry_run=dry_run)
        )
    return result.summary.exit_code


def _agree(deletions: "Deletions", target: Path, *, yes: bool) -> None:
    """Tell what will be deleted, and ask. Raises UsageError where nobody can be asked, or somebody says no."""
    for path in deletions.paths:
        note(f"delete  {printable(os.fsdecode(path))}")
    below = f"with all that is below, below {target}"
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            detail=f"{plural(len(deletions.paths), 'path')} would be deleted {below} (named above): nothing was done; "
            "give --yes to agree"
        )
    if not click.confirm(f"Delete {plural(len(deletions.paths), 'path')} {below}?", err=True):
        raise UsageError(detail="nothing was done")


def _describe(result: "RestoreResult", vault: str, unheard: list[str]) -> dict[str, object]:
    summary = result.summary
    return {
        "type": "summary",
        "vault": vault,
        "unheard": unheard,
        "snapshot": result.snapshot.id,
        "files": summary.files,
        "files_same": summary.same,
        "dirs": summary.dirs,
        "others": summary.others,
        "left": summary.left,
        "deleted": summary.deleted,
        "bytes": summary.bytes,
        "fetched_bytes": summary.fetched_bytes,
        "seconds": round(summary.seconds, 3),
        "resumed": summary.resumed,
        "warnings": summary.warned,
        "damaged": summary.lost,
        "job": result.job or None,
    }


def _show(result: "RestoreResult", target: Path, *, dry_run: bool) -> None:
    summary = result.summary
    rate = summary.bytes / max(summary.seconds, 0.001)
    done = f"{plural(summary.files, 'file')}, {plural(summary.dirs, 'folder')}, {size_text(summary.bytes)}"
    if dry_run:
        say(f"Snapshot {result.snapshot.short_id} would be restored to {target}: {done}. Nothing was done.")
    else:
        say(
            f"Snapshot {result.snapshot.short_id} restored to {target}: {done} "
            f"in {duration_text(summary.seconds)} ({size_text(rate)}/s)"
        )
    if summary.resumed:
        say("An earlier restore was gone on with.")
    if summary.same:
        say(f"{plural(summary.same, 'file')} had the right content already.")
    if summary.left:
        say(f"{plural(summary.left, 'path')} in the target left as they are.")
    if summary.deleted:
        say(f"{plural(summary.deleted, 'path')} {'would be ' if dry_run else ''}deleted.")
    if summary.warnings:
        was = "it was" if summary.warned == 1 else "they were"
        say(f"{plural(summary.warned, 'path')} could not be restored as {was} (named above).")
    if summary.damaged:
        are = "is" if summary.lost == 1 else "are"
        say(f"{plural(summary.lost, 'path')} {are} lost in the vault and missing here (named above).")
