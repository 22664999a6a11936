"""What snapshots hold, what each added to its vault, and what that takes there.

Kept true: each tree is read once, however many snapshots share it; what is remembered of a blob is a bit, and of a tree
16 bytes, so that memory hardly grows with the vault. What cannot be read is told, and missing from the figures.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from client.errors import DamagedVault, ObjectMissing
from client.vault.blob_numbers import BlobNumbers, BlobSet, Renumbered
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader
from domain.names import ObjectKind

Unread = Callable[[bytes, DamagedVault | ObjectMissing], None]


@dataclass(frozen=True, slots=True)
class Added:
    """One snapshot: its files and their bytes, as a restore of it has them (each name of a hard link counts).

    `added_bytes` are the plain and `added_stored_bytes` the sealed bytes of the blobs that no snapshot before it has.
    """

    snapshot: Snapshot
    files: int
    total_bytes: int
    added_bytes: int
    added_stored_bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Several snapshots, oldest first, and plain and sealed bytes of all their blobs, each once."""

    snapshots: tuple[Added, ...]
    unique_bytes: int
    stored_bytes: int

    @property
    def total_bytes(self) -> int:
        """As if each snapshot were restored."""
        return sum(one.total_bytes for one in self.snapshots)

    @property
    def compression_ratio(self) -> float | None:
        return self.unique_bytes / self.stored_bytes if self.stored_bytes else None


def measure(vault: Vault, snapshots: Iterable[Snapshot], unread: Unread) -> Stats:
    """Measure snapshots in the order of their times. Raises StoreError."""
    ordered = sorted(snapshots, key=lambda one: (one.time_ns, one.id))
    while True:
        try:
            return _Measure(vault, unread).run(ordered)
        except Renumbered:
            continue  # of the kinds of table that an index has, the last does not break


def stored_size(vault: Vault) -> int:
    """Bytes of all objects of the vault, those included that nothing refers to."""
    kinds = (kind for kind in ObjectKind if kind is not ObjectKind.LOCK)
    return sum(info.size for kind in kinds for info in vault.session.list(kind))


@dataclass(slots=True)
class _Open:
    """A tree that is being read: what is below it so far."""

    number: int
    path: bytes
    nodes: Iterator[Node]
    files: int = 0
    bytes: int = 0


class _Measure:
    def __init__(self, vault: Vault, unread: Unread) -> None:
        self._reader = TreeReader(vault)
        self._unread = unread
        self._data = BlobNumbers(vault.index, BlobKind.DATA)
        self._trees = BlobNumbers(vault.index, BlobKind.TREE)
        self._seen_data = BlobSet()
        self._files = array("q")  # below each tree; -1 where it was not read yet
        self._bytes = array("q")
        self._plain = self._sealed = 0

    def run(self, snapshots: Iterable[Snapshot]) -> Stats:
        found = []
        for snapshot in snapshots:
            plain, sealed = self._plain, self._sealed
            files, size = self._below(snapshot.tree)
            found.append(Added(snapshot, files, size, self._plain - plain, self._sealed - sealed))
        return Stats(tuple(found), self._plain, self._sealed)

    def _below(self, root: BlobId) -> tuple[int, int]:
        """Files and bytes below a root tree."""
        top = _Open(-1, b"", iter([Node(name=b"", type=NodeType.DIR, subtree=root)]))
        stack = [top]
        while stack:
            opened = stack[-1]
            below = self._read_on(opened)
            if below is not None:
                stack.append(below)
                continue
            stack.pop()
            if stack:
                self._files[opened.number], self._bytes[opened.number] = opened.files, opened.bytes
                stack[-1].files += opened.files
                stack[-1].bytes += opened.bytes
        return top.files, top.bytes

    def _read_on(self, opened: _Open) -> _Open | None:
        """Read a tree on, to its end or to a folder that is to be read first."""
        try:
            for node in opened.nodes:
                if node.type is NodeType.FILE:
                    self._file(opened, node)
                elif node.type is NodeType.DIR and node.subtree is not None:
                    below = self._folder(opened, node.subtree, opened.path.rstrip(b"/") + b"/" + node.name)
                    if below is not None:
                        return below
        except (DamagedVault, ObjectMissing) as error:
            self._unread(opened.path or b"/", error)
        return None

    def _file(self, opened: _Open, node: Node) -> None:
        opened.files += 1
        opened.bytes += node.size
        for blob in node.content or ():
            found = self._data.find(blob)
            if found is not None and self._seen_data.add(found[0]):
                self._count(found[1])

    def _folder(self, above: _Open, tree: BlobId, path: bytes) -> _Open | None:
        found = self._trees.find(tree)
        if found is None:
            self._unread(path, DamagedVault(name=f"tree {tree.hex()}", detail="no index file lists it"))
            return None
        number, entry = found
        if number >= len(self._files):
            more = number + 1 - len(self._files) + (len(self._files) >> 3)
            self._files.extend([-1] * more)
            self._bytes.extend([0] * more)
        if self._files[number] >= 0:
            above.files += self._files[number]
            above.bytes += self._bytes[number]
            return None
        self._count(entry)
        try:
            return _Open(number, path, self._reader.nodes(tree))
        except (DamagedVault, ObjectMissing) as error:
            self._unread(path, error)
            self._files[number] = 0  # told once
            return None

    def _count(self, entry: PackEntry) -> None:
        self._plain += entry.length_plain
        self._sealed += entry.length
