"""The trees that snapshots reach, each read once, in whatever order reads them fastest.

Kept true: every tree that was marked was opened and read, from whichever of its places gives it, or a problem was told.
Memory is four bytes a tree that waits.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence

from client.errors import DamagedVault
from client.reachability.findings import Progress
from client.reachability.reading import Unreadable, read_entries
from client.reachability.references import references
from client.reachability.tables import PackTables
from client.vault.blob_figures import BlobFigures
from client.vault.blobs import BlobId
from client.vault.repository import Vault

_READ_AT_ONCE = 1 << 14  # trees, sorted by their places


class TreeWalk(ABC):
    """A walk; what is done about trees, blobs of files and problems is its kind's."""

    def __init__(self, vault: Vault, tables: PackTables, trees: BlobFigures, progress: Progress) -> None:
        """`trees` are the places of trees in packs that are there."""
        self._vault = vault
        self._tables = tables
        self._trees = trees
        self._progress = progress
        self._waiting = array("I")  # entry numbers
        self._read = 0

    @abstractmethod
    def mark(self, places: Sequence[int]) -> bool:
        """Note that the tree that lies at `places` is needed; whether it must be read."""

    @abstractmethod
    def note(self, content: bytes) -> None:
        """Note that the blobs of a file are needed, whose ids are given one after another."""

    @abstractmethod
    def tell(self, name: str, detail: str) -> None:
        """Something that is needed is lost."""

    def run(self, roots: Iterable[tuple[str, BlobId]]) -> None:
        """Walk from the names of snapshots and their trees. Raises StoreError."""
        for name, tree in roots:
            self._reach(tree, name)
        while self._waiting:
            chosen = self._waiting[-_READ_AT_ONCE:]
            del self._waiting[-_READ_AT_ONCE:]
            self._read_trees(sorted(chosen))

    def take(self, number: int, tree: BlobId, body: bytes | Unreadable) -> None:
        """What a tree gave at one of its places."""
        if isinstance(body, Unreadable):
            self._read_elsewhere(number, tree, body)
        else:
            self._note_references(tree, body)

    def _reach(self, tree: BlobId, reached_from: str) -> None:
        places = self._tables.places(self._trees, tree)
        if not places:
            self.tell(f"tree {tree.hex()}", f"no pack that is there has it, and {reached_from} needs it")
        elif self.mark(places):
            self._waiting.append(places[0])

    def _read_trees(self, numbers: Sequence[int]) -> None:
        at = 0
        while at < len(numbers):
            row = self._tables.row_of(numbers[at])
            end = at
            here = self._tables.numbers(row)
            while end < len(numbers) and numbers[end] in here:
                end += 1
            entries = [(number, self._tables.entry(number)) for number in numbers[at:end]]
            for number, entry, _, body in read_entries(self._vault, self._tables.pack(row), entries):
                self.take(number, entry.id, body)
            at = end
            self._progress("trees", self._read, 0)

    def _read_elsewhere(self, failed: int, tree: BlobId, unreadable: Unreadable) -> None:
        """Read a tree in another pack, since it cannot be in that of its place `failed`."""
        failed_row = self._tables.row_of(failed)
        for number in self._tables.places(self._trees, tree):
            row = self._tables.row_of(number)
            entries = [(number, self._tables.entry(number))] if row != failed_row else []
            for _, _, _, body in read_entries(self._vault, self._tables.pack(row), entries):
                if not isinstance(body, Unreadable):
                    self._note_references(tree, body)
                    return
        self.tell(f"tree {tree.hex()} in {self._tables.pack(failed_row)}", unreadable.reason)

    def _note_references(self, tree: BlobId, body: bytes) -> None:
        self._read += 1
        name = f"tree {tree.hex()}"
        try:
            for subtree, content in references(body, name):
                if subtree:
                    self._reach(subtree, name)
                if content:
                    self.note(content)
        except DamagedVault as error:
            self.tell(name, str(error.fields["detail"]))
