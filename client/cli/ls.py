"""backup-tool ls"""

import os
import stat
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit_array, list_lines, path_fields, printable, time_text
from client.cli.invocation import AllDevices, Invocation, Json, SnapshotName, VaultName
from client.cli.parameters import Argument
from client.cli.unread import UnreadParts
from client.errors import UsageError

if TYPE_CHECKING:
    from client.vault.nodes import Node

Path = Annotated[str, Argument(help="A path, as for `backup`: only it and what is below it.", metavar="[PATH]")]


def ls(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    snapshot: SnapshotName,
    vault: VaultName,
    path: Path = "/",
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> None:
    """List what a snapshot holds, folder by folder."""
    wanted = absolute_path(path)
    from client.account.looking import looking_at
    from client.cli.views import index_lines
    from client.vault.walk import list_snapshot

    unread = UnreadParts()
    with (
        Invocation.of(context).device() as device,
        looking_at(device, vault, snapshot, unread.object) as look,
    ):
        (chosen,) = look.named(snapshot, all_devices=all_devices)
        look.read_index(index_lines(as_json=as_json))
        found = list_snapshot(look.vault, chosen, wanted)
        if as_json:
            emit_array({**path_fields(listed.path), **describe_node(listed.node)} for listed in found)
        else:
            list_lines(_line(listed.path, listed.node) for listed in found)


def absolute_path(path: str) -> bytes:
    """As `backup` takes it: from the working folder, without `..`. Raises UsageError."""
    if not path or "\0" in path:
        raise UsageError(detail=f"{path!r} is no path")
    return os.path.abspath(os.fsencode(path))  # noqa: PTH100 - links are names in a snapshot, not to be followed


def describe_node(node: "Node") -> dict[str, Any]:
    """A node as --json has it, beside its path."""
    from client.vault.modes import unix_mode
    from client.vault.times import format_time

    return {
        "type": node.type.value,
        "size": node.size,
        "mode": stat.S_IMODE(unix_mode(node.mode)),
        "mtime": format_time(node.mtime_ns),
        "uid": node.uid,
        "gid": node.gid,
        "user": node.user,
        "group": node.group,
        "linktarget": os.fsdecode(node.linktarget) if node.linktarget else None,
    }


def _line(path: bytes, node: "Node") -> str:
    from client.vault.modes import unix_mode

    owner = f"{node.user or node.uid}:{node.group or node.gid}"
    target = f" -> {printable(os.fsdecode(node.linktarget))}" if node.linktarget else ""
    return (
        f"{stat.filemode(unix_mode(node.mode))}  {printable(owner):16} {node.size:>12}  {time_text(node.mtime_ns)}  "
        f"{printable(os.fsdecode(path))}{target}"
    )
