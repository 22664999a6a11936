"""A vault in memory with several snapshots, whose trees a test says, and a count of what is read of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from client.errors import DamagedVault, ObjectMissing
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobId
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, encode_snapshot
from client.vault.tests.builders import TIME_NS, VaultWriter, a_writer
from client.vault.trees import TreeReader

DAY_NS = 86_400 * 10**9


@dataclass
class History:
    """Snapshots a day apart, oldest first."""

    writer: VaultWriter = field(default_factory=a_writer)
    count: int = 0

    def snapshot(self, *nodes: Node, tags: tuple[str, ...] = ()) -> str:
        """Its id."""
        made = Snapshot(TIME_NS + self.count * DAY_NS, self.writer.tree(*nodes), ("/home",), "kasimir", tags=tags)
        self.count += 1
        return self.writer.raw_snapshot(encode_snapshot(made)).id

    @contextmanager
    def read(self) -> Iterator[tuple[Vault, list[Snapshot]]]:
        """The vault as the next session finds it, and its snapshots, oldest first."""
        with self.writer.finish() as vault:
            yield vault, vault.snapshots()

    @property
    def store(self) -> MemoryStore:
        assert isinstance(self.writer.store, MemoryStore)
        return self.writer.store


class CountedTrees(TreeReader):
    """Counts how often each tree is read; `lost` are not to be had."""

    def __init__(self, vault: Vault, *lost: BlobId | None) -> None:
        super().__init__(vault)
        self.read: Counter[BlobId] = Counter()
        self._lost = lost

    def load_body(self, tree: BlobId) -> bytes:
        self.read[tree] += 1
        if tree in self._lost:
            raise DamagedVault(name=f"tree {tree.hex()}", detail="it is lost")
        return super().load_body(tree)


@dataclass
class Told:
    """What could not be read."""

    paths: list[bytes] = field(default_factory=list)

    def __call__(self, path: bytes, _error: DamagedVault | ObjectMissing) -> None:
        self.paths.append(path)
