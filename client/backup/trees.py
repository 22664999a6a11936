"""Folders on their way to becoming trees, from the leaves up.

Kept true: a folder's tree is made once, when all its children are known, by whichever thread brings the last one; a
folder in which nothing changed keeps its parent snapshot's tree, which is neither encoded nor stored again; what is
held in memory are the folders that still wait for something.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from client.backup.destinations import Destinations
from client.backup.known import KnownFolder
from client.backup.listing import Listing
from client.backup.memo import Memo
from client.backup.new_nodes import NewNodes
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.nodes import Node, encode_node, join_tree

_BATCH_BYTES = 512 << 10
_BATCH_TREES = 128


@dataclass(slots=True, eq=False)
class Folder:
    """A folder of the snapshot that is being made.

    `node` is its own metadata, without its tree; None for the root, and where the folder above was taken over whole:
    there it is known by its `name`. `known` is the tree that the parent snapshot has of it; `known_at` is where in the
    tree above the parent has the folder, if but for its tree it is still the same. `listing` is all that its tree is
    made from, or None if it may be made from something else, as when a file is not read as the listing has it.
    `new` are nodes that the parent does not have. `waiting` counts children that are not known yet, and 1 for the scan
    of the folder itself. `above_target` folders are only the way to what is backed up.
    """

    above: "Folder | None"
    node: Node | None
    known: KnownFolder
    known_at: int | None = None
    above_target: bool = False
    name: bytes = b""
    listing: Listing | None = None
    new: NewNodes = field(default_factory=NewNodes)
    waiting: int = 1


class TreeWriter:
    """Turns finished folders into trees. Safe for any thread."""

    def __init__(self, vaults: Destinations, memo: Memo) -> None:
        """Trees that are made or kept are entered in the `memo`."""
        self._vaults = vaults
        self._memo = memo
        self._lock = threading.Lock()
        self._batch: list[bytearray] = []
        self._batch_bytes = 0
        self.root: BlobId | None = None
        self.kept = 0  # nodes of what was asked for

    def expect(self, folder: Folder, children: int = 1) -> None:
        """Children of `folder` will be known later."""
        with self._lock:
            folder.waiting += children

    def reuse(self, folder: Folder, position: int) -> None:
        """A child is as the parent snapshot has it at that position of the folder, to the last field."""
        with self._lock:
            folder.known.reuse(position)
            self.kept += 1

    def keep(self, folder: Folder, entries: int) -> None:
        """The folder is taken over whole, with so many entries that are no folders."""
        folder.known.take_whole()
        with self._lock:
            self.kept += entries

    def drop(self, folder: Folder, name: bytes) -> None:
        """A folder in one that is taken over whole is not in the snapshot, or as something else."""
        with self._lock:
            folder.known.change(name, None)
            folder.listing = None

    def add(self, folder: Folder, node: Node) -> None:
        """A child is known at once."""
        encoded = encode_node(node)
        with self._lock:
            folder.new.add(node.name, encoded)
            self.kept += 1

    def arrived(self, folder: Folder, node: Node | None) -> None:
        """An expected child is known, or is not in the snapshot (None)."""
        if node is not None:
            self.add(folder, node)
        self.finish(folder)

    def arrived_encoded(self, children: Sequence[tuple[Folder, bytes, bytes]]) -> None:
        """As `arrived`, of many: folder, name, and what `encode_node` or the like wrote. Neighbours share a folder."""
        whole: list[Folder] = []
        with self._lock:
            self.kept += len(children)
            for folder, name, encoded in children:
                folder.new.add(name, encoded)
                folder.waiting -= 1
                if not folder.waiting:
                    whole.append(folder)
        for folder in whole:
            self._make(folder)

    def finish(self, folder: Folder) -> None:
        """One thing less that `folder` waits for; with the last, its tree is made, and so on upwards."""
        with self._lock:
            folder.waiting -= 1
            if folder.waiting:
                return
        self._make(folder)

    def _make(self, folder: Folder) -> None:
        """Make the tree of a folder that waits for nothing, and those above it that waited for nothing else."""
        current = folder
        while True:
            above = current.above
            tree = self._tree(current)
            if above is None:
                self.root = tree
                return
            self._enter(above, current, tree)
            with self._lock:
                self.kept -= current.above_target
                above.waiting -= 1
                if above.waiting:
                    return
            current = above

    def flush(self) -> None:
        """Store what is left of the last batch."""
        with self._lock:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._vaults.store(BlobKind.TREE, batch)

    def _enter(self, above: Folder, folder: Folder, tree: BlobId) -> None:
        """A folder's tree is known: enter it in the folder above."""
        if folder.node is None:
            with self._lock:
                self.kept += 1
                if tree != folder.known.tree:
                    above.known.change(folder.name, tree)
        elif folder.known_at is not None and tree == folder.known.tree:
            self.reuse(above, folder.known_at)
        else:
            self.add(above, replace(folder.node, subtree=tree))

    def _tree(self, folder: Folder) -> BlobId:
        known = folder.known
        if known.tree is not None and known.is_stored and not folder.new and known.is_all_reused():
            if folder.listing is not None and not known.is_whole:
                self._memo.add(known.tree, folder.listing, known.body)
            return known.tree
        encoded = join_tree(_merged(known.reused(), folder.new.in_order()))
        known.forget()
        tree = blob_id(encoded)
        if folder.listing is not None:
            self._memo.add(tree, folder.listing, encoded)
        if tree == known.tree and known.is_stored:
            return tree
        with self._lock:
            self._batch.append(encoded)
            self._batch_bytes += len(encoded)
            if self._batch_bytes < _BATCH_BYTES and len(self._batch) < _BATCH_TREES:
                return tree
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._vaults.store(BlobKind.TREE, batch)
        return tree


def _merged(reused: Iterator[tuple[bytes, bytes]], new: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Encoded nodes in the order of their names; of two with one name, the new one."""
    following = next(new, None)
    for name, encoded in reused:
        while following is not None and following[0] < name:
            yield following[1]
            following = next(new, None)
        if following is None or following[0] != name:
            yield encoded
    while following is not None:
        yield following[1]
        following = next(new, None)
