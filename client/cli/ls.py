"""backup-tool ls"""

import os
import stat
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli.console import emit_array, list_lines, note, path_fields, printable
from client.cli.invocation import Invocation, Json, VaultName
from client.errors import NoSuchPath, NoSuchSnapshot, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.vault.blobs import BlobId
    from client.vault.nodes import Node
    from client.vault.repository import Vault

Snapshot = Annotated[
    str, typer.Argument(help="`latest`, an id, or the beginning of one.", metavar="SNAPSHOT", show_default=False)
]
Path = Annotated[str, typer.Argument(help="A path, as for `backup`: only it and what is below it.", metavar="[PATH]")]


def ls(context: typer.Context, snapshot: Snapshot, vault: VaultName, path: Path = "/", as_json: Json = False) -> None:
    """List what a snapshot holds, folder by folder."""
    wanted = _absolute(path)
    from client.account.opening import place_of
    from client.stores.resuming import ResumingSession
    from client.vault.repository import reason_unread
    from domain.names import ObjectKind, ObjectName

    with (
        Invocation.of(context).device() as device,
        place_of(device, vault) as place,
        ResumingSession(place.store) as session,
    ):
        opened = place.open(session)
        if opened is None:
            raise NoSuchSnapshot(snapshot=snapshot)
        with opened:
            chosen = opened.find_snapshot(snapshot, lambda _, error: note(f"backup-tool: {error}"))
            session.stay_with(ObjectName(ObjectKind.SNAPSHOT, chosen.id))
            for name, error in opened.index.damaged.items():
                note(f"backup-tool: {name} cannot be read: {reason_unread(error)}")
            try:
                found = _below(opened, chosen.tree, wanted)
            except KeyError:
                raise NoSuchPath(snapshot=chosen.short_id, path=os.fsdecode(wanted)) from None
            if as_json:
                emit_array(_describe(where, node) for where, node in found)
            else:
                list_lines(_line(where, node) for where, node in found)


def _absolute(path: str) -> bytes:
    """As `backup` takes it: from the working folder, without `..`. Raises UsageError."""
    if not path or "\0" in path:
        raise UsageError(detail=f"{path!r} is no path")
    return os.path.abspath(os.fsencode(path))  # noqa: PTH100 - links are names in a snapshot, not to be followed


def _below(vault: "Vault", tree: "BlobId", wanted: bytes) -> "Iterator[tuple[bytes, Node]]":
    """The wanted path and all below it. Raises KeyError at once, not when half is listed."""
    parts = [part for part in wanted.split(b"/") if part]
    if not parts:
        return _walk(vault, tree, b"")
    node: Node | None = None
    here: BlobId | None = tree
    for part in parts:
        nodes = vault.load_tree(here) if here is not None else []
        node = next((candidate for candidate in nodes if candidate.name == part), None)
        if node is None:
            raise KeyError(wanted)
        here = node.subtree
    if node is None:
        raise AssertionError("there is at least one part")
    return _from(vault, node, b"/" + b"/".join(parts[:-1]))


def _from(vault: "Vault", node: "Node", folder: bytes) -> "Iterator[tuple[bytes, Node]]":
    path = folder.rstrip(b"/") + b"/" + node.name
    yield path, node
    if node.subtree is not None:
        yield from _walk(vault, node.subtree, path)


def _walk(vault: "Vault", tree: "BlobId", folder: bytes) -> "Iterator[tuple[bytes, Node]]":
    """Depth first, in the order of the trees; holds one tree a level."""
    stack = [(folder, iter(vault.load_tree(tree)))]
    while stack:
        where, nodes = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        path = where + b"/" + node.name
        yield path, node
        if node.subtree is not None:
            stack.append((path, iter(vault.load_tree(node.subtree))))


def _describe(path: bytes, node: "Node") -> dict[str, Any]:
    from client.vault.modes import unix_mode
    from client.vault.times import format_time

    return {
        **path_fields(path),
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
    from client.vault.times import format_time

    owner = f"{node.user or node.uid}:{node.group or node.gid}"
    target = f" -> {printable(os.fsdecode(node.linktarget))}" if node.linktarget else ""
    when = format_time(node.mtime_ns)[:19].replace("T", " ")
    return (
        f"{stat.filemode(unix_mode(node.mode))}  {printable(owner):16} {node.size:>12}  {when}  "
        f"{printable(os.fsdecode(path))}{target}"
    )
