"""The storage role as an ObjectStore: a vault's objects over gRPC, on whichever node of the cluster answers."""

from client.stores.node.access import VaultAccess
from client.stores.node.kept import KeepingStore
from client.stores.node.store import NodeStore

__all__ = ["KeepingStore", "NodeStore", "VaultAccess"]
