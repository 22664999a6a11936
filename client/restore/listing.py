"""What a snapshot holds, path by path.

Kept true: memory does not grow with the snapshot; a folder whose tree is lost is listed, and raises when it is entered.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from client.errors import NoSuchPath
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader


@dataclass(frozen=True, slots=True)
class Listed:
    """One path of a snapshot, absolute, and its node."""

    path: bytes
    node: Node


def list_snapshot(vault: Vault, snapshot: Snapshot, path: bytes = b"/") -> Iterator[Listed]:
    """`path` and everything below it, folders before what is in them, each folder by the bytes of its names.

    The root itself, which has no node, is not listed. Raises NoSuchPath before anything is listed, DamagedVault,
    StoreError.
    """
    trees = TreeReader(vault)
    nodes = trees.load(snapshot.tree)
    above = b""
    node: Node | None = None
    for part in (part for part in path.split(b"/") if part not in (b"", b".")):
        above = above if node is None else above + b"/" + node.name
        if node is not None:
            nodes = trees.load(node.subtree) if node.type is NodeType.DIR and node.subtree else []
        node = next((found for found in nodes if found.name == part), None)
        if node is None:
            raise NoSuchPath(snapshot=snapshot.short_id, path=path.decode("utf-8", "surrogateescape"))
    return _below(trees, above, nodes if node is None else [node])


def _below(trees: TreeReader, above: bytes, nodes: list[Node]) -> Iterator[Listed]:
    stack = [(above, iter(nodes))]
    while stack:
        folder, remaining = stack[-1]
        node = next(remaining, None)
        if node is None:
            stack.pop()
            continue
        path = folder + b"/" + node.name
        yield Listed(path, node)
        if node.type is NodeType.DIR and node.subtree:
            stack.append((path, iter(trees.load(node.subtree))))
