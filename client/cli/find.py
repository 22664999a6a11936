"""backup-tool find"""

import os
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.amounts import size_of, time_of
from client.cli.console import emit_array, list_lines, note, path_fields, plural, printable, size_text, time_text
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.ls import describe_node
from client.cli.parameters import Argument, Option
from client.cli.unread import UnreadParts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from client.account.looking import Look
    from client.looking.find import Found, Version
    from client.vault.snapshots import Snapshot

Patterns = Annotated[
    list[str],
    Argument(help="A name, a path from the root, or a glob such as '*.txt'.", metavar="PATTERN..."),
]
IgnoreCase = Annotated[bool, Option("--ignore-case", "-i", help="Take small and capital letters as the same.")]
Snapshots = Annotated[list[str], Option("--snapshot", help="Only in this snapshot. May be repeated.")]
Newer = Annotated[str | None, Option("--newer", help="Only what was changed at this time or later (UTC).")]
Older = Annotated[str | None, Option("--older", help="Only what was changed at this time or earlier (UTC).")]
Larger = Annotated[str | None, Option("--larger", help="Only files of this size or more: 500, 100k, 2G.")]
Smaller = Annotated[str | None, Option("--smaller", help="Only files of this size or less.")]


def find(
    context: click.Context,
    patterns: Patterns,
    vault: VaultName,
    *,
    ignore_case: IgnoreCase = False,
    snapshot: Snapshots = [],  # noqa: B006 - nobody changes it
    newer: Newer = None,
    older: Older = None,
    larger: Larger = None,
    smaller: Smaller = None,
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Find files and folders in all snapshots, and say which versions there are and where.

    Exit codes: 3, a snapshot or index file cannot be read; 8, nor can a folder.
    """
    from client.account.looking import looking_into
    from client.cli.views import index_lines
    from client.looking.find import Finder, Wanted
    from client.patterns import Pattern
    from client.vault.trees import TreeReader

    wanted = Wanted(
        [Pattern(pattern, ignore_case=ignore_case) for pattern in patterns],
        smallest=None if larger is None else size_of(larger),
        largest=None if smaller is None else size_of(smaller),
        oldest=None if newer is None else time_of(newer),
        newest=None if older is None else time_of(older),
    )
    unread = UnreadParts()
    with Invocation.of(context).device() as device, looking_into(device, vault, unread.object) as look:
        chosen, hidden = _chosen(look, snapshot, all_devices=all_devices)
        found: Iterator[Found] = iter(())
        if look is not None:
            look.read_index(index_lines(as_json=as_json))
            found = Finder(TreeReader(look.vault), wanted, unread.folder).find(chosen)
        if as_json:
            emit_array(_describe(one) for one in found)
        else:
            list_lines(line for one in found for line in _lines(one))
            if hidden:
                note(f"backup-tool: not looked into {plural(hidden, 'snapshot')} of other devices: add --all-devices.")
    return unread.exit_code


def _chosen(look: "Look | None", names: "Sequence[str]", *, all_devices: bool) -> "tuple[list[Snapshot], int]":
    """The snapshots to look into, and how many of other devices are left out."""
    from client.errors import NoSuchSnapshot

    if look is None:
        if names:
            raise NoSuchSnapshot(snapshot=names[0])
        return [], 0
    if names:
        return list(dict.fromkeys(look.named(*names, all_devices=all_devices))), 0
    found = look.snapshots()
    seen = [one for one in found if all_devices or one.is_seen_by(look.device)]
    return seen, len(found) - len(seen)


def _describe(found: "Found") -> dict[str, Any]:
    return {
        **path_fields(found.path),
        "versions": [
            {
                **describe_node(version.node),
                "snapshots": [snapshot.id for snapshot in version.snapshots],
            }
            for version in found.versions
        ],
    }


def _lines(found: "Found") -> "Iterator[str]":
    yield printable(os.fsdecode(found.path))
    for version in found.versions:
        yield f"  {_line(version)}"


def _line(version: "Version") -> str:
    from client.vault.modes import NodeType
    from client.vault.times import format_time

    node, snapshots = version.node, version.snapshots
    size = size_text(node.size) if node.type is NodeType.FILE else node.type.value
    first, last = (f"{one.short_id} of {format_time(one.time_ns)[:10]}" for one in (snapshots[0], snapshots[-1]))
    where = f"in {first}" if len(snapshots) == 1 else f"in {len(snapshots):,} snapshots, {first} to {last}"
    return f"{size:>10}  {time_text(node.mtime_ns)}  {where}"
