"""The parent snapshot's trees, as far as the vaults still have them.

Kept true: what cannot be read any more is treated as if there had been no parent there, so that everything of it is
read and stored again. A folder is read beside the walk, node by node: what is held of it is the tree as it was stored.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind, Buffer
from client.vault.nodes import (
    EMPTY_TREE,
    TREE_START,
    Node,
    decode_tree,
    encode_node,
    iterate_tree,
    join_tree,
    node_at,
)
from client.vault.repository import Vault
from client.vault.trees import TreeReader

if TYPE_CHECKING:
    from domain.names import ObjectName

# What follows `"content":[` in the encoded node of a file that has no more than usual
_REST_OF_FILE = re.compile(rb'((?:"[0-9a-f]{64}"(?:,"[0-9a-f]{64}")*)?)\]\}(?=[,\]])').match


class KnownFolder:
    """One tree of the parent snapshot, asked for names in their order; remembers which of its nodes are taken over.

    Only nodes that are not as the walk finds them are decoded: to compare an encoded one costs a tenth of that.
    """

    def __init__(self, tree: BlobId | None = None, body: Buffer = EMPTY_TREE, *, is_stored: bool = True) -> None:
        """`tree` is None if there is no parent here; one that is not stored in every vault must be stored again."""
        self.tree = tree
        self.is_stored = is_stored
        self._broken = False
        self._body = self._plain(body)
        self._at = len(TREE_START)  # where the present node begins
        self._end: int | None = None  # and ends, once that is known
        self._name: bytes | None = None
        self._node: Node | None = None
        self._before: bytes | None = None  # the name of the node before
        self._position = 0
        self._reused = bytearray()  # 1 for each position that is
        self._reused_count = 0
        self._is_whole = False
        self._changed: dict[bytes, BlobId | None] = {}

    @property
    def body(self) -> bytes:
        """The tree in our layout."""
        return self._body

    @property
    def is_whole(self) -> bool:
        """Whether it was taken over whole."""
        return self._is_whole

    @property
    def position(self) -> int:
        """Where in the tree the node is that was answered last."""
        return self._position

    def find(self, name: bytes) -> Node | None:
        """The node of that name; each name must come after the one before, or be the same."""
        while (node := self._present()) is not None and node.name < name:
            self._advance()
        return node if node is not None and node.name == name else None

    def find_encoded(self, name: bytes, head: bytes) -> list[BlobId] | None:
        """The content of the file of that name, if its encoded node is `head` and then nothing but the content.

        Names are asked for as with `find`. None says nothing: the node may be there nevertheless.
        """
        if self._name is not None and self._name < name:
            self._advance()
        if (self._name or self._before or b"") > name or not self._body.startswith(head, self._at):
            return None
        rest = _REST_OF_FILE(self._body, self._at + len(head))
        if rest is None:
            return None
        self._name, self._end = name, rest.end()
        start, end = rest.span(1)
        return [bytes.fromhex(self._body[at : at + 64].decode()) for at in range(start + 1, end, 67)]

    def reuse(self, position: int) -> None:
        """The node at that position is in the new tree as it is."""
        if position >= len(self._reused):
            self._reused.extend(bytes(position + 1 - len(self._reused)))
        self._reused[position] = 1
        self._reused_count += 1

    def take_whole(self) -> None:
        """Every node is in the new tree as it is, but for those that `change` names."""
        self._is_whole = True

    def change(self, name: bytes, subtree: BlobId | None) -> None:
        """Of a tree taken over whole: the folder of that name has another tree now, or (None) is not in the new one."""
        self._changed[name] = subtree

    def is_all_reused(self) -> bool:
        """Whether every node is in the new tree. Asked when the walk has ended."""
        if self._is_whole:
            return not self._changed
        while self._position < self._reused_count and not self._is_at_end():
            self._present()
            self._advance()
        is_whole = self._is_at_end() and not self._broken
        return self.tree is not None and is_whole and self._position == self._reused_count

    def reused(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and encoded nodes that are in the new tree, in order."""
        if self._is_whole:
            for node in iterate_tree(self._body):
                if node.name not in self._changed:
                    yield node.name, encode_node(node)
                elif (subtree := self._changed[node.name]) is not None:
                    yield node.name, encode_node(replace(node, subtree=subtree))
        elif self._reused_count:
            for taken, node in zip(self._reused, iterate_tree(self._body), strict=False):
                if taken:
                    yield node.name, encode_node(node)

    def forget(self) -> None:
        """Hold only the tree's id from now on."""
        self._body, self._at, self._node = EMPTY_TREE, len(TREE_START), None

    def _plain(self, body: Buffer) -> bytes:
        """The tree as we lay it out, whoever wrote it."""
        if body[: len(TREE_START)] == TREE_START:
            return bytes(body)
        try:
            return bytes(join_tree(map(encode_node, decode_tree(body))))
        except DamagedVault:
            self._broken = True
            return EMPTY_TREE

    def _is_at_end(self) -> bool:
        return self._broken or self._body.startswith(b"]", self._at)

    def _present(self) -> Node | None:
        """The present node, decoded. Where the tree is damaged, or not in order, it ends."""
        if self._node is None and not self._is_at_end():
            try:
                self._node, self._end = node_at(self._body, self._at, "a tree")
            except DamagedVault:
                self._broken = True
                return None
            self._name = self._node.name
            if self._before is not None and self._name <= self._before:
                self._node, self._broken = None, True
        return self._node

    def _advance(self) -> None:
        """Leave the present node behind."""
        if self._is_at_end() or self._end is None:
            return
        self._before, self._name, self._node = self._name, None, None
        self._at, self._end = self._end, None
        self._position += 1
        if self._body.startswith(b",", self._at):
            self._at += 1
        elif not self._body.startswith(b"]", self._at):
            self._broken = True


class KnownTrees(Protocol):
    """The parent snapshot, as far as every vault has it."""

    def load(self, tree: BlobId | None) -> KnownFolder:
        """A tree; nothing if it is None, or no vault has it any more."""

    def has_content(self, content: Sequence[BlobId]) -> bool:
        """Whether all of a file's blobs are in the index of every vault."""

    def has_tree(self, tree: BlobId) -> bool:
        """Whether a tree that is not read is in every index, and its pack in that vault."""


class NoKnownTrees:
    """There is no parent snapshot."""

    def load(self, tree: BlobId | None) -> KnownFolder:  # noqa: ARG002 - the protocol's
        return KnownFolder()

    def has_content(self, content: Sequence[BlobId]) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def has_tree(self, tree: BlobId) -> bool:  # noqa: ARG002 - the protocol's
        return False


class VaultTrees:
    """What one vault has of the trees of the parent snapshot. Raises StoreError.

    Where its own pinned parent is that snapshot, `is_pinned`, what the index has stays; else `keeps` sees to it that it
    does. Of trees that are not read themselves, the first of each pack is: a pack that is gone is noticed. When
    anything was lost, which `on_lost` hears, no tree counts as stored any more that was not read.
    """

    def __init__(
        self,
        vault: Vault,
        keeps: Callable[[BlobKind, Sequence[BlobId]], bool],
        on_lost: Callable[[], None] = lambda: None,
        *,
        is_pinned: bool,
    ) -> None:
        self._vault = vault
        self._trees = TreeReader(vault)
        self._keeps = keeps
        self._on_lost = on_lost
        self.is_pinned = is_pinned
        self._has_lost = False
        self._seen: set[ObjectName] = set()  # packs

    def load_body(self, tree: BlobId) -> Buffer | None:
        """A tree as it is stored; None if it cannot be read."""
        if not self.is_pinned and self._vault.index.find(BlobKind.TREE, tree) is None:
            return None
        try:
            return self._trees.load_body(tree)
        except (DamagedVault, ObjectMissing):
            self._lose()
            return None

    def has_content(self, content: Sequence[BlobId]) -> bool:
        if self.is_pinned:
            return self._vault.index.has_all(BlobKind.DATA, content)
        return self._keeps(BlobKind.DATA, content)

    def has_tree(self, tree: BlobId) -> bool:
        location = None if self._has_lost else self._vault.index.find(BlobKind.TREE, tree)
        if location is None:
            return False
        if location.pack not in self._seen:
            try:
                self._vault.load_at(location)
            except (DamagedVault, ObjectMissing):
                self._lose()
                return False
            self._seen.add(location.pack)
        return self.is_pinned or self._keeps(BlobKind.TREE, [tree])

    def _lose(self) -> None:
        self._has_lost = True
        self._on_lost()
