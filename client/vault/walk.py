"""The walk over a snapshot's trees: what it holds, path by path.

Kept true: memory does not grow with the snapshot, nor with a folder's number of files beyond its tree's bytes; a folder
whose tree is lost is listed, and raises when it is entered.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from client.errors import NoSuchPath
from client.vault.blobs import BlobId
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
    parts = path_parts(path)
    if not parts:
        return walk(trees, b"", trees.nodes(snapshot.tree))
    node = find_node(trees, snapshot.tree, parts)
    if node is None:
        raise NoSuchPath(snapshot=snapshot.short_id, path=path.decode("utf-8", "surrogateescape"))
    return walk(trees, b"".join(b"/" + part for part in parts[:-1]), iter([node]))


def walk(trees: TreeReader, above: bytes, nodes: Iterator[Node]) -> Iterator[Listed]:
    """The `nodes` of the folder `above` and everything below them; holds one tree a level."""
    stack = [(above, nodes)]
    while stack:
        folder, remaining = stack[-1]
        node = next(remaining, None)
        if node is None:
            stack.pop()
            continue
        path = folder + b"/" + node.name
        yield Listed(path, node)
        subtree = subtree_of(node)
        if subtree is not None:
            stack.append((path, trees.nodes(subtree)))


def path_parts(path: bytes) -> list[bytes]:
    """The names along a path; none for the root."""
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def find_node(trees: TreeReader, tree: BlobId, parts: list[bytes]) -> Node | None:
    """The node at a path below a root tree, or None. Raises DamagedVault, StoreError."""
    node: Node | None = None
    here: BlobId | None = tree
    for part in parts:
        nodes = trees.nodes(here) if here is not None else iter(())
        node = next((found for found in nodes if found.name == part), None)
        if node is None:
            return None
        here = subtree_of(node)
    return node


def subtree_of(node: Node) -> BlobId | None:
    """The tree of a folder; None for what is no folder."""
    return node.subtree if node.type is NodeType.DIR else None
