"""backup-tool backup"""

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.after_backup import follow_with_retention
from client.cli.amounts import size_of
from client.cli.choice import compression_of, ensure_read_once, file_patterns, listed_paths, marker_of, stream_of
from client.cli.console import (
    duration_text,
    emit,
    error_fields,
    note,
    plural,
    printable,
    say,
    size_text,
    telling,
)
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option
from client.errors import WARNINGS_EXIT_CODE, OortError, UsageError

if TYPE_CHECKING:
    from client.account.backup_run import BackupResult, VaultResult
    from client.backup.request import BackupSummary

_MOST_READERS = 64

Texts = list[str] | None
VaultNames = Annotated[
    list[str], Option("--vault", help="Name of the vault. May be repeated: what is read is read once for all.")
]
Paths = Annotated[
    Texts,
    Argument(help="Files and folders; with --stdin-command a program and its arguments.", metavar="[PATH]..."),
]
Exclude = Annotated[Texts, Option("--exclude", "-e", help="Leave out what matches a path or a glob.")]
Iexclude = Annotated[Texts, Option("--iexclude", help="The same, in upper or lower case.")]
ExcludeFile = Annotated[Texts, Option("--exclude-file", help="Leave out what matches a pattern in the file.")]
IexcludeFile = Annotated[Texts, Option("--iexclude-file", help="The same, in upper or lower case.")]
ExcludeRegex = Annotated[
    Texts, Option("--exclude-regex", help="Leave out paths in which RE2 finds the regular expression.")
]
ExcludeLarger = Annotated[
    str | None, Option("--exclude-larger-than", help="Leave out files of more bytes; also as 10k, 10M, 10G, 10T.")
]
ExcludeCaches = Annotated[bool, Option("--exclude-caches", help="Leave out what is in folders with a CACHEDIR.TAG.")]
ExcludeIfPresent = Annotated[
    Texts, Option("--exclude-if-present", help="Leave out what is beside a file NAME, or NAME:BEGINNING.")
]
ExcludeNodump = Annotated[bool, Option("--exclude-nodump", help="Leave out what has the flag of `chattr +d`.")]
OneFileSystem = Annotated[bool, Option("--one-file-system", "-x", help="Leave out other file systems.")]
FilesFrom = Annotated[Texts, Option("--files-from", help="Back up what the file lists: paths and globs, one a line.")]
FilesFromVerbatim = Annotated[Texts, Option("--files-from-verbatim", help="The same, of paths alone.")]
FilesFromRaw = Annotated[Texts, Option("--files-from-raw", help="The same, of paths that each end with a NUL.")]
Stdin = Annotated[bool, Option("--stdin", help="Back up standard input, as one file.")]
StdinCommand = Annotated[
    bool, Option("--stdin-command", help="Back up the output of -- PROGRAM ARGUMENT..., as one file.")
]
StdinFilename = Annotated[str, Option("--stdin-filename", help="The path of that file in the snapshot.")]
Tag = Annotated[Texts, Option("--tag", help="A tag for the snapshot. May be repeated.")]
Note = Annotated[str, Option("--note", help="A note on the snapshot.")]
Readers = Annotated[
    int | None, Option("--readers", min=1, max=_MOST_READERS, help="How many big files are read at once.")
]

CompressionWord = Annotated[
    str, Option("--compression", help="auto, max (smaller, a tenth of the speed) or off.", metavar="HOW")
]


class AutoRetention(StrEnum):
    """The levels of domain/automatic_pass.py, in words."""

    AUTOMATIC = "automatic"
    IMMEDIATE = "immediate"
    MORE_OFTEN = "more-often"
    LESS_OFTEN = "less-often"


AutoRetentionLevel = Annotated[
    AutoRetention,
    Option("--auto-retention", help="How soon a retention pass follows, if rules are stored for the vault."),
]


def backup(
    context: click.Context,
    *,
    paths: Paths = None,
    vault: VaultNames,
    exclude: Exclude = None,
    iexclude: Iexclude = None,
    exclude_file: ExcludeFile = None,
    iexclude_file: IexcludeFile = None,
    exclude_regex: ExcludeRegex = None,
    exclude_larger_than: ExcludeLarger = None,
    exclude_caches: ExcludeCaches = False,
    exclude_if_present: ExcludeIfPresent = None,
    exclude_nodump: ExcludeNodump = False,
    one_file_system: OneFileSystem = False,
    files_from: FilesFrom = None,
    files_from_verbatim: FilesFromVerbatim = None,
    files_from_raw: FilesFromRaw = None,
    stdin: Stdin = False,
    stdin_command: StdinCommand = False,
    stdin_filename: StdinFilename = "stdin",
    tag: Tag = None,
    note_text: Note = "",
    readers: Readers = None,
    compression: CompressionWord = "auto",
    auto_retention: AutoRetentionLevel = AutoRetention.AUTOMATIC,
    as_json: Json = False,
) -> int:
    """Back up files and folders, or a program's output, to vaults. Exit code 3: done, but something is missing."""
    from client.account.backup_run import BackupOptions, run_backup
    from client.account.tagging import checked_tags, note_tags
    from client.backup.run import Machinery
    from client.backup.selection import CACHE_TAG, EVERYTHING, Selection
    from client.backup.stream import stream_path
    from client.cli.views import view_of

    ensure_read_once(exclude_file, iexclude_file, files_from, files_from_verbatim, files_from_raw)
    selection = Selection(
        excludes=(*(exclude or ()), *file_patterns(exclude_file or (), os.environ)),
        iexcludes=(*(iexclude or ()), *file_patterns(iexclude_file or (), os.environ)),
        expressions=tuple(exclude_regex or ()),
        markers=(*((CACHE_TAG,) if exclude_caches else ()), *map(marker_of, exclude_if_present or ())),
        larger_than=None if exclude_larger_than is None else size_of(exclude_larger_than),
        one_file_system=one_file_system,
        nodump=exclude_nodump,
    )
    listed = listed_paths(files_from or (), files_from_verbatim or (), files_from_raw or ())
    stream = stream_of(paths or (), stdin=stdin, command=stdin_command)
    if stream is None:
        wanted = (*map(os.fsencode, paths or ()), *listed.paths)
    elif listed.names or selection != EVERYTHING:
        raise UsageError(detail="a stream is one file: --stdin and --stdin-command take no lists and leave nothing out")
    else:
        wanted = (stream_path(stdin_filename),)
    options = BackupOptions(
        selection,
        stream,
        tuple(listed.missing),
        (*checked_tags(tag or ()), *note_tags(note_text)),
        Machinery(readers=readers or 1, compression=compression_of(compression)),
    )
    with Invocation.of(context).device() as device:
        with view_of("Backing up", as_json=as_json) as view:
            result = run_backup(device, vault, wanted, view, options)
        if result.untold is not None:
            note(f"backup-tool: the job will be reported later: {result.untold}")
        with telling(f"snapshot {result.summary.snapshot.id} exists"):
            view.finish(lambda: emit(_describe(result)) if as_json else _show(result))
        stored = [one.vault for one in result.vaults if one.has_snapshot]
        code = follow_with_retention(device, stored, auto_retention.name, as_json=as_json)
    return code or (0 if result.is_whole else WARNINGS_EXIT_CODE)


def _describe(result: "BackupResult") -> dict[str, object]:
    vaults = [_describe_vault(one) for one in result.vaults]
    whole = next(fields for fields, one in zip(vaults, result.vaults, strict=True) if one.has_snapshot)
    return {"type": "summary", **whole, "warnings": result.warned, "job": result.job, "vaults": vaults}


def _describe_vault(result: "VaultResult") -> dict[str, object]:
    summary = result.outcome
    if isinstance(summary, OortError):
        return {"vault": result.vault.name, "snapshot": None, **error_fields(summary)}
    return {
        "vault": result.vault.name,
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
    }


def _show(result: "BackupResult") -> None:
    summary = result.summary
    stored = [(one.vault.name, one.outcome) for one in result.vaults if not isinstance(one.outcome, OortError)]
    is_alone = len(result.vaults) == 1
    for name, outcome in stored:
        rate = outcome.total_bytes / max(outcome.seconds, 0.001)
        where = "" if is_alone else f" in the vault {printable(name)}"
        say(
            f"Snapshot {outcome.snapshot.id[:8]}{where}: {plural(outcome.total_files, 'file')}, "
            f"{size_text(outcome.total_bytes)} in {duration_text(outcome.seconds)} ({size_text(rate)}/s)"
            f"{'' if is_alone else f'; {_amounts(outcome)}'}"
        )
    say(
        f"{summary.files_new:,} new, {summary.files_changed:,} changed, {summary.files_unmodified:,} unchanged"
        f"{f'; {_amounts(summary)}' if is_alone else ''}"
    )
    if result.warned:
        say(f"{plural(result.warned, 'warning')}: what is named above is not in the snapshot, or not as it should be.")


def _amounts(summary: "BackupSummary") -> str:
    return f"{size_text(summary.new_bytes)} of new data, {size_text(summary.uploaded_bytes)} sent"
