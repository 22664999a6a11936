"""The parent snapshot's trees, as far as the vault still has them.

Kept true: what cannot be read any more is treated as if there had been no parent there, so that everything of it is
read and stored again.
"""

from collections.abc import Mapping

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.trees import TreeReader


class VaultTrees:
    """Loads trees of the pinned parent snapshot."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._trees = TreeReader(vault)

    def load(self, tree: BlobId) -> Mapping[bytes, Node] | None:
        """The nodes of a tree by name; None if it is lost or damaged. Raises StoreError."""
        try:
            return {node.name: node for node in self._trees.load(tree)}
        except (DamagedVault, ObjectMissing):
            return None

    def has_content(self, node: Node) -> bool:
        """Whether all of a file's blobs are still in the index."""
        index = self._vault.index
        return all((BlobKind.DATA, blob) in index for blob in node.content or ())
