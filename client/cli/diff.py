"""backup-tool diff"""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit, list_lines, path_fields, plural, printable, say, size_text
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.ls import absolute_path
from client.cli.parameters import Argument
from client.cli.unread import UnreadParts

if TYPE_CHECKING:
    from client.looking.diff import Amount, Difference, Totals

Old = Annotated[str, Argument(help="The older snapshot: an id, or the beginning of one.", metavar="SNAPSHOT")]
New = Annotated[str, Argument(help="The newer: an id, the beginning of one, or `latest`.", metavar="SNAPSHOT")]
Path = Annotated[str, Argument(help="A path: only it and what is below it.", metavar="[PATH]")]

_SIGNS = {"added": "+", "removed": "-", "type": "T", "content": "M", "metadata": "U"}


def diff(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    old: Old,
    new: New,
    vault: VaultName,
    path: Path = "/",
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Tell what differs between two snapshots.

    + added, - removed, M other content, U other metadata, T another type. Exit codes: 3, a snapshot or index file
    cannot be read; 8, nor can a folder.
    """
    wanted = absolute_path(path)
    from client.account.looking import looking_at
    from client.cli.views import index_lines
    from client.looking.diff import Differ
    from client.vault.trees import TreeReader

    unread = UnreadParts()
    with Invocation.of(context).device() as device, looking_at(device, vault, old, unread.object) as look:
        first, second = look.named(old, new, all_devices=all_devices)
        look.read_index(index_lines(as_json=as_json))
        differ = Differ(TreeReader(look.vault), unread.folder)
        found = differ.diff(first, second, wanted)
        list_lines(json.dumps(_describe(one)) if as_json else _line(one) for one in found)
    if as_json:
        emit({"type": "summary", "old": first.id, "new": second.id, **_describe_totals(differ.totals)})
    else:
        _show(differ.totals)
    return unread.exit_code


def _describe(found: "Difference") -> dict[str, Any]:
    node = found.new or found.old
    return {
        "type": "change",
        **path_fields(found.path),
        "change": found.change.value,
        "node_type": node.type.value if node else None,
        "old_type": found.old.type.value if found.old else None,
        "old_size": found.old.size if found.old else None,
        "new_size": found.new.size if found.new else None,
        "metadata": list(found.metadata),
    }


def _line(found: "Difference") -> str:
    from client.vault.modes import NodeType

    node = found.new or found.old
    slash = "/" if node and node.type is NodeType.DIR else ""
    what = f"  ({', '.join(found.metadata)})" if found.change.value == "metadata" else ""
    return f"{_SIGNS[found.change.value]}  {printable(os.fsdecode(found.path))}{slash}{what}"


def _describe_totals(totals: "Totals") -> dict[str, Any]:
    return {
        "added": asdict(totals.added),
        "removed": asdict(totals.removed),
        "changed": asdict(totals.changed),
        "changed_types": totals.types,
        "changed_metadata": totals.metadata,
    }


def _show(totals: "Totals") -> None:
    for sign, amount in (("added", totals.added), ("removed", totals.removed), ("other content", totals.changed)):
        say(f"{sign + ':':15}{_amount(amount)}")
    say(f"{'metadata only:':15}{totals.metadata:,}; another type: {totals.types:,}")


def _amount(amount: "Amount") -> str:
    return (
        f"{plural(amount.files, 'file')} of {size_text(amount.bytes)}, {plural(amount.dirs, 'folder')}, "
        f"{plural(amount.others, 'other')}"
    )
