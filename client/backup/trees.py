"""Folders on their way to becoming trees, from the leaves up.

Kept true: a folder's tree is made once, when all its children are known, by whichever thread brings the last one; a
folder in which nothing changed keeps its parent snapshot's tree, which is neither encoded nor stored again; what is
held in memory are the folders that still wait for something.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from client.backup.packing import Packer
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.nodes import Node, encode_tree

_BATCH_BYTES = 512 << 10
_BATCH_TREES = 128


@dataclass(slots=True, eq=False)
class Folder:
    """A folder of the snapshot that is being made.

    `node` is its own metadata, without its tree, None for the root. `known` are the nodes that the parent snapshot
    has in it, by name, and `known_tree` their tree. `waiting` counts children that are not known yet, and 1 for the
    scan of the folder itself. `above_target` folders are only the way to what is backed up.
    """

    above: "Folder | None"
    node: Node | None
    known: Mapping[bytes, Node]
    known_node: Node | None = None
    known_tree: BlobId | None = None
    above_target: bool = False
    nodes: list[Node] = field(default_factory=list)
    waiting: int = 1
    reused: int = 0


class TreeWriter:
    """Turns finished folders into trees. Safe for any thread."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._lock = threading.Lock()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self.root: BlobId | None = None
        self.kept = 0  # nodes of what was asked for

    def expect(self, folder: Folder, children: int = 1) -> None:
        """Children of `folder` will be known later."""
        with self._lock:
            folder.waiting += children

    def reuse(self, folder: Folder, node: Node) -> None:
        """A child is as the parent snapshot has it, to the last field."""
        with self._lock:
            folder.nodes.append(node)
            folder.reused += 1
            self.kept += 1

    def add(self, folder: Folder, node: Node) -> None:
        """A child is known at once."""
        with self._lock:
            folder.nodes.append(node)
            self.kept += 1

    def arrived(self, folder: Folder, node: Node | None) -> None:
        """An expected child is known, or is not in the snapshot (None)."""
        with self._lock:
            if node is not None:
                folder.nodes.append(node)
                self.kept += 1
        self.finish(folder)

    def finish(self, folder: Folder) -> None:
        """One thing less that `folder` waits for; with the last, its tree is made, and so on upwards."""
        current: Folder | None = folder
        while current is not None:
            with self._lock:
                current.waiting -= 1
                if current.waiting:
                    return
            above = current.above
            tree = self._tree(current)
            if above is None or current.node is None:
                self.root = tree
                return
            known = current.known_node
            if known is not None and known.subtree == tree:
                self.reuse(above, known)
            else:
                self.add(above, replace(current.node, subtree=tree))
            if current.above_target:
                with self._lock:
                    self.kept -= 1
            current = above

    def flush(self) -> None:
        """Store what is left of the last batch."""
        with self._lock:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._packer.store(BlobKind.TREE, batch)

    def _tree(self, folder: Folder) -> BlobId:
        if folder.known_tree is not None and folder.reused == len(folder.nodes) == len(folder.known):
            return folder.known_tree
        folder.nodes.sort(key=lambda node: node.name)
        encoded = encode_tree(folder.nodes)
        folder.nodes = []
        tree = blob_id(encoded)
        if tree == folder.known_tree:
            return tree
        with self._lock:
            self._batch.append(encoded)
            self._batch_bytes += len(encoded)
            if self._batch_bytes < _BATCH_BYTES and len(self._batch) < _BATCH_TREES:
                return tree
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._packer.store(BlobKind.TREE, batch)
        return tree
