"""The parent snapshot's trees, as far as the vault still has them.

Kept true: what cannot be read any more is treated as if there had been no parent there, so that everything of it is
read and stored again. A folder is read beside the walk, node by node: what is held of it is the tree as it was stored.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind
from client.vault.nodes import Node, encode_node, iterate_tree
from client.vault.repository import Vault
from client.vault.trees import TreeReader


class KnownFolder:
    """One tree of the parent snapshot, asked for names in their order; remembers which of its nodes are taken over."""

    def __init__(self, tree: BlobId | None = None, body: bytes = b"") -> None:
        """`tree` is None if there is no parent here."""
        self.tree = tree
        self._body = body
        self._nodes: Iterator[Node] = iterate_tree(body) if tree is not None else iter(())
        self._node: Node | None = None
        self._position = -1
        self._broken = False
        self._reused = bytearray()  # 1 for each position that is
        self._reused_count = 0
        self._advance()

    @property
    def position(self) -> int:
        """Where in the tree the node is that `find` answered last."""
        return self._position

    def find(self, name: bytes) -> Node | None:
        """The node of that name; each name must come after the one before."""
        while self._node is not None and self._node.name < name:
            self._advance()
        return self._node if self._node is not None and self._node.name == name else None

    def reuse(self, position: int) -> None:
        """The node at that position is in the new tree as it is."""
        self._reused.extend(bytes(max(0, position + 1 - len(self._reused))))
        self._reused[position] = 1
        self._reused_count += 1

    def is_all_reused(self) -> bool:
        """Whether every node is in the new tree. Asked when the walk has ended."""
        while self._node is not None and self._position < self._reused_count:
            self._advance()
        is_at_end = self._node is None and not self._broken
        return self.tree is not None and is_at_end and self._position == self._reused_count

    def reused(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and encoded nodes that are in the new tree as they are, in order."""
        if self._reused_count:
            for taken, node in zip(self._reused, iterate_tree(self._body), strict=False):
                if taken:
                    yield node.name, encode_node(node)

    def forget(self) -> None:
        """Hold only the tree's id from now on."""
        self._body, self._nodes, self._node = b"", iter(()), None

    def _advance(self) -> None:
        """Go to the next node. Where the tree is damaged, or not in order, it ends."""
        try:
            following = next(self._nodes, None)
        except DamagedVault:
            following, self._broken = None, True
        if following is not None and self._node is not None and following.name <= self._node.name:
            following, self._broken = None, True
        if self._broken:
            self._nodes = iter(())
        self._node = following
        self._position += 1


class KnownTrees(Protocol):
    """The parent snapshot, as far as the vault still has it."""

    def load(self, tree: BlobId | None) -> KnownFolder:
        """A tree; nothing if it is None, or cannot be read any more."""

    def has_content(self, node: Node) -> bool:
        """Whether all of a file's blobs are still in the index."""


class NoKnownTrees:
    """There is no parent snapshot."""

    def load(self, tree: BlobId | None) -> KnownFolder:  # noqa: ARG002 - the protocol's
        return KnownFolder()

    def has_content(self, node: Node) -> bool:  # noqa: ARG002 - the protocol's
        return False


class VaultTrees:
    """Loads trees of the pinned parent snapshot; `on_lost` hears when one cannot be. Raises StoreError."""

    def __init__(self, vault: Vault, on_lost: Callable[[], None] = lambda: None) -> None:
        self._vault = vault
        self._trees = TreeReader(vault)
        self._on_lost = on_lost

    def load(self, tree: BlobId | None) -> KnownFolder:
        if tree is None:
            return KnownFolder()
        try:
            return KnownFolder(tree, self._trees.load_body(tree))
        except (DamagedVault, ObjectMissing):
            self._on_lost()
            return KnownFolder()

    def has_content(self, node: Node) -> bool:
        index = self._vault.index
        return all((BlobKind.DATA, blob) in index for blob in node.content or ())
