"""What of a vault is needed to copy its snapshots, one after another, and where it lies.

Kept true: an entry counts as needed or copied only if all that it names does too. The marks of a snapshot stand only
when all that it reaches was found, each tree read; else all of them are taken back, so that the next snapshot looks at
the same trees itself. So whoever meets a mark may rely on it, and no snapshot is left out for what another has lost.

A tree of whole snapshots is read once, whatever their number. Memory is a byte an entry and four a tree that waits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from client.reachability.findings import Progress
from client.reachability.marking import sort_entries
from client.reachability.reading import Opened, Unreadable, read_entries
from client.reachability.scratch import in_scratch
from client.reachability.tables import PackTables
from client.reachability.walk import TreeWalk
from client.vault.blob_figures import BlobFigures
from client.vault.blobs import ID_BYTES, BlobId, BlobKind, PackEntry
from client.vault.index_files import iterate_entries
from client.vault.pack_sizes import PackSizes
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from domain.names import ObjectKind, ObjectName

_BATCH = 8 << 20  # plain bytes, or one blob that is larger

# What an entry is: needed by the snapshot that is looked at, by one that is to be copied now, copied, or lost.
_UNUSED, _MET, _NEEDED, _COPIED, _LOST = range(5)

Numbered = tuple[int, PackEntry]


class _Lost(Exception):
    """Something that a snapshot needs is lost."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs of one pack and one kind, each with the number of its place; `size` plain bytes together."""

    pack: ObjectName
    blobs: Sequence[Numbered]
    size: int


class Needed:
    """The blobs of a vault that are to be copied: first `add` snapshots, then copy the `batches`, then `settle`.

    Where a blob turns out to be lost, `take_back` instead, and add the snapshots anew. `size` is that of all blobs that
    are to be copied, in plain bytes; `figures` tell where blobs of each kind lie.
    """

    def __init__(
        self, vault: Vault, tables: PackTables, figures: dict[BlobKind, BlobFigures], progress: Progress
    ) -> None:
        self.vault = vault
        self.tables = tables
        self.progress = progress
        self.size = 0
        self.states = bytearray(tables.entries)
        self.figures = figures
        self._reasons: dict[int, str] = {}  # why entries are lost

    def add(self, snapshot: Snapshot) -> str:
        """Mark what a snapshot needs beyond what is needed or copied already; why it cannot be copied, if so.

        Raises StoreError.
        """
        walk = _SnapshotWalk(self)
        try:
            walk.run([(f"snapshots/{snapshot.id}", snapshot.tree)])
        except _Lost as lost:
            self._change(_MET, _UNUSED)
            return str(lost)
        self._change(_MET, _NEEDED)
        self.size += walk.size
        return ""

    def batches(self) -> Iterator[Batch]:
        """All that is to be copied, in the order in which it lies."""
        at = self.states.find(_NEEDED)
        while at >= 0:
            row = self.tables.row_of(at)
            numbers = self.tables.numbers(row)
            states = self.states[numbers.start : numbers.stop]
            entries = zip(numbers, iterate_entries(self.tables.table(row)), states, strict=True)
            wanted = [(number, entry) for number, entry, state in entries if state == _NEEDED]
            yield from _batches(self.tables.pack(row), sorted(wanted, key=lambda one: one[1].offset))
            at = self.states.find(_NEEDED, numbers.stop)

    def settle(self) -> None:
        """All that was to be copied is."""
        self._change(_NEEDED, _COPIED)
        self.size = 0

    def take_back(self) -> None:
        """Nothing that was to be copied counts as needed or copied."""
        self._change(_NEEDED, _UNUSED)
        self.size = 0

    def pack(self, number: int) -> ObjectName:
        """The pack of an entry. For any thread."""
        return self.tables.pack(self.tables.row_of(number))

    def places(self, kind: BlobKind, blob: BlobId) -> list[int]:
        """Where a blob lies, in packs that are there."""
        return self.tables.places(self.figures[kind], blob)

    def elsewhere(self, number: int) -> Opened | None:
        """The blob of an entry from another place, since it cannot be had there. Raises StoreError. For any thread."""
        entry = self.tables.entry(number)
        for other in self.places(entry.kind, entry.id):
            entries = [(other, self.tables.entry(other))] if other != number else []
            for opened in read_entries(self.vault, self.pack(other), entries):
                if not isinstance(opened.plaintext, Unreadable):
                    return opened
        return None

    def lose(self, number: int, reason: str) -> None:
        """What an entry names cannot be had; no snapshot that needs it is copied. For any thread."""
        self._reasons[number] = reason
        self.states[number] = _LOST

    def reason(self, number: int) -> str:
        """Why an entry is lost; empty if it is not."""
        return self._reasons.get(number, "")

    def _change(self, old: int, new: int) -> None:
        self.states = self.states.translate(bytes.maketrans(bytes((old,)), bytes((new,))))


class _SnapshotWalk(TreeWalk):
    """Marks what one snapshot needs that was not marked, up to the first thing that is lost. `size` in plain bytes."""

    def __init__(self, needed: Needed) -> None:
        super().__init__(needed.vault, needed.tables, needed.figures[BlobKind.TREE], needed.progress)
        self._needed = needed
        self.size = 0

    def mark(self, places: Sequence[int]) -> bool:
        place = places[0]
        state = self._needed.states[place]
        if state == _LOST:
            raise _Lost(self._needed.reason(place))
        if state != _UNUSED:
            return False
        self._needed.states[place] = _MET
        self.size += self._tables.entry(place).length_plain
        return True

    def note(self, content: bytes) -> None:
        for at in range(0, len(content), ID_BYTES):
            blob = content[at : at + ID_BYTES]
            places = self._needed.places(BlobKind.DATA, blob)
            if not places:
                self.tell(f"data blob {blob.hex()}", "no pack that is there has it, and a file needs it")
            self.mark(places)

    def tell(self, name: str, detail: str) -> NoReturn:
        raise _Lost(f"{name}: {detail}")

    def take(self, number: int, tree: BlobId, body: bytes | Unreadable) -> None:
        if isinstance(body, Unreadable):
            self._vault.doubts.add(self._needed.pack(number))
        try:
            super().take(number, tree, body)
        except _Lost as lost:  # and so is the tree, for the next snapshot too
            self._needed.lose(number, str(lost))
            raise


def needed(
    vault: Vault, damaged: Callable[[ObjectName, str], object], progress: Progress
) -> AbstractContextManager[Needed]:
    """Find out where everything lies; `damaged` hears of index files that cannot be read, and why.

    Raises HomeFull, HomeUnusable, StoreError.
    """
    return in_scratch(vault, partial(_needed, vault, damaged, progress))


@contextmanager
def _needed(
    vault: Vault, damaged: Callable[[ObjectName, str], object], progress: Progress, scratch: Path | None
) -> Iterator[Needed]:
    index_files = list(vault.session.list(ObjectKind.INDEX))
    with (
        PackTables(PackSizes(vault.session.list(ObjectKind.PACK)), scratch) as tables,
        BlobFigures(scratch) as trees,
        BlobFigures(scratch) as data,
    ):
        tables.fill(vault, index_files, damaged, progress)
        sort_entries(tables, trees.add_prefix, data.add_prefix, progress)
        trees.finish()
        data.finish()
        yield Needed(vault, tables, {BlobKind.TREE: trees, BlobKind.DATA: data}, progress)


def _batches(pack: ObjectName, wanted: Sequence[Numbered]) -> Iterator[Batch]:
    batch: list[Numbered] = []
    size = 0
    for number, entry in wanted:
        if batch and (size + entry.length_plain > _BATCH or entry.kind is not batch[0][1].kind):
            yield Batch(pack, batch, size)
            batch, size = [], 0
        batch.append((number, entry))
        size += entry.length_plain
    if batch:
        yield Batch(pack, batch, size)
