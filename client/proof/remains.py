"""What is left of snapshots that have lost something: their trees without the lost files.

Kept true: nothing but what is lost is left out; what is kept is kept to the byte, with fields that we do not know. A
file that has lost a part is left out whole, and a folder whose list is lost is left empty
(docs/decisions/repaired-snapshots.md). Memory grows with the folders that are touched.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.gojson import RawNumber, go_json
from client.vault.index import IndexWriter
from client.vault.nodes import EMPTY_TREE, Node, decode_tree, encode_node, join_tree
from client.vault.packs import PackBuilder
from client.vault.repository import Vault
from client.vault.sealing import seal_batch
from client.vault.tree_check import TreeCheck


class Remains:
    """Makes trees of what is left, and stores them."""

    def __init__(self, vault: Vault, trees: TreeCheck, ensure_locked: Callable[[], None]) -> None:
        """`trees` has walked over the snapshots, with the index of the `vault`."""
        self._vault = vault
        self._trees = trees
        self._ensure_locked = ensure_locked
        self._made: dict[BlobId, BlobId] = {}
        self._stored: set[BlobId] = set()
        self._builder = PackBuilder(vault.keys, BlobKind.TREE)
        self._writer = IndexWriter(vault.index, vault)

    def tree(self, root: BlobId) -> BlobId:
        """What is left of a touched tree, which must not be lost itself. Raises DamagedVault, StoreError."""
        waiting = [(root, False)]
        while waiting:
            tree, is_ready = waiting.pop()
            if tree in self._made:
                continue
            if is_ready:
                self._made[tree] = self._store(self._without_losses(tree))
            elif self._trees.is_lost(tree):
                self._made[tree] = self._store(EMPTY_TREE)
            else:
                waiting.append((tree, True))
                waiting += [(below, False) for below in self._touched_below(tree)]
        return self._made[root]

    def finish(self) -> None:
        """Store what is not stored yet, and list it in an index file. Raises StoreError."""
        if len(self._builder):
            self._put()
        self._ensure_locked()
        self._writer.flush()

    def _touched_below(self, tree: BlobId) -> Iterator[BlobId]:
        for node in self._trees.load(tree):
            if node.subtree is not None and self._trees.is_touched(node.subtree):
                yield node.subtree

    def _without_losses(self, tree: BlobId) -> bytes:
        """The tree blob of a folder without its lost files, and with the new trees of its folders."""
        body = self._trees.load_body(tree)
        nodes = decode_tree(body, f"tree {tree.hex()}")
        changed = [self._changed(node) for node in nodes]
        if join_tree(map(encode_node, nodes)) == body:
            return bytes(join_tree(encode_node(node) for node in changed if node is not None))
        document = json.loads(str(body, "utf-8"), parse_int=RawNumber, parse_float=RawNumber)
        document["nodes"] = [
            fields if node.subtree is None else {**fields, "subtree": node.subtree.hex()}
            for node, fields in zip(changed, document["nodes"], strict=True)
            if node is not None
        ]
        return go_json(document).encode() + b"\n"

    def _changed(self, node: Node) -> Node | None:
        """A node as it is in the new tree; None if it is lost."""
        if node.subtree is not None:
            return replace(node, subtree=self._made.get(node.subtree, node.subtree))
        return node if self._trees.is_whole(node) else None

    def _store(self, body: bytes) -> BlobId:
        identity = blob_id(body)
        if identity not in self._stored and not self._opens(identity):
            version = self._vault.config.version
            (sealed,) = seal_batch(self._vault.keys, BlobKind.TREE, [body], ids=[identity], version=version)
            self._builder.add(sealed)
            self._stored.add(identity)
            if self._builder.is_full:
                self._put()
        return identity

    def _opens(self, tree: BlobId) -> bool:
        """Whether a tree is there to be named; what is in the index may be lost all the same."""
        if self._trees.is_lost(tree) or (BlobKind.TREE, tree) not in self._vault.index:
            return False
        try:
            self._trees.load_body(tree)
        except (DamagedVault, ObjectMissing):
            return False
        return True

    def _put(self) -> None:
        builder, self._builder = self._builder, PackBuilder(self._vault.keys, BlobKind.TREE)
        pack, body = builder.finish()
        self._ensure_locked()
        self._vault.session.put(pack.name, body)
        self._writer.add_pack(pack)
