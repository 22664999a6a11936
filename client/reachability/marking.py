"""Which entries of the index are needed: those that some snapshot reaches.

Kept true: every tree that a snapshot reaches was opened and read, and every blob that it names was found in a pack that
is there; what was not is a problem, and with a single one nothing may be removed. Each tree is read once, whatever
the number of snapshots that share it. Memory is a byte an entry, and four a tree that waits.

Blobs of files are looked up when all trees are read, a part of all ids at a time: none falls anywhere in the index.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from client.errors import DamagedVault
from client.reachability.findings import Findings, Progress
from client.reachability.reading import Unreadable, read_entries
from client.reachability.references import references
from client.reachability.tables import PackTables
from client.reachability.wanted import WantedBlobs
from client.vault.blob_figures import BlobFigures
from client.vault.blob_parts import PARTS, PREFIX_BYTES, BlobParts
from client.vault.blobs import ID_BYTES, BlobId
from client.vault.repository import Vault

UNUSED, NEEDED, DUPLICATE = 0, 1, 2  # what an entry is; a duplicate is needed, but another copy of it is kept

_HEAD = struct.Struct(f">Q{ID_BYTES - PREFIX_BYTES}xB12x")  # of a packed entry: the prefix of its id, and its kind
_TREE = 1  # in a packed entry
_READ_AT_ONCE = 1 << 14  # trees, sorted by their places


class Marks:
    """What each entry is, and the groups of entries of one blob that are needed."""

    def __init__(self, entries: int) -> None:
        self.states = bytearray(entries)
        self._members = array("I")
        self._ends = array("I")

    def add_group(self, numbers: Sequence[int]) -> None:
        """Note entries of one needed blob."""
        self._members.extend(numbers)
        self._ends.append(len(self._members))

    def groups(self) -> Iterator[Sequence[int]]:
        start = 0
        for end in self._ends:
            yield self._members[start:end]
            start = end


def mark_needed(
    vault: Vault,
    tables: PackTables,
    roots: Iterable[tuple[str, BlobId]],
    problems: Findings,
    *,
    progress: Progress,
    scratch: Path | None,
) -> Marks:
    """Mark all that is reached from `roots`: names of snapshots and their trees. Raises OSError, StoreError."""
    with ExitStack() as files:
        trees = files.enter_context(BlobFigures(scratch))
        data = files.enter_context(BlobParts(scratch))
        wanted = files.enter_context(WantedBlobs(scratch))
        _sort_entries(tables, trees, data, progress)
        marks = Marks(tables.entries)
        _Walk(vault, tables, trees, wanted, marks, problems, progress).run(roots)
        _mark_data(tables, data, wanted, marks, problems)
        return marks


def _sort_entries(tables: PackTables, trees: BlobFigures, data: BlobParts, progress: Progress) -> None:
    """Note where each blob lies; what is in no pack that is there lies nowhere."""
    for row in range(len(tables)):
        if not tables.is_there(row):
            continue
        table = tables.table(row)
        for number, (prefix, kind) in zip(tables.numbers(row), _HEAD.iter_unpack(table), strict=True):
            if kind & _TREE:
                trees.add_prefix(prefix, number)
            else:
                data.add(prefix, number)
        progress("packs", row + 1, len(tables))
    trees.finish()


@dataclass(slots=True)
class _Walk:
    """All trees that are reached, in whatever order reads them fastest."""

    vault: Vault
    tables: PackTables
    trees: BlobFigures
    wanted: WantedBlobs
    marks: Marks
    problems: Findings
    progress: Progress
    waiting: "array[int]" = field(default_factory=lambda: array("I"))  # entry numbers
    read: int = 0

    def run(self, roots: Iterable[tuple[str, BlobId]]) -> None:
        for name, tree in roots:
            self._reach(tree, name)
        while self.waiting:
            chosen = self.waiting[-_READ_AT_ONCE:]
            del self.waiting[-_READ_AT_ONCE:]
            self._read_trees(sorted(chosen))

    def _reach(self, tree: BlobId, reached_from: str) -> None:
        """Note that a tree is needed, and that it must be read if it was not."""
        places = self._places(tree)
        if not places:
            self.problems.add(f"tree {tree.hex()}", f"no pack that is there has it, and {reached_from} needs it")
        elif self.marks.states[places[0]] == UNUSED:
            self.waiting.append(places[0])
            for place in places:
                self.marks.states[place] = NEEDED
            if len(places) > 1:
                self.marks.add_group(places)

    def _places(self, tree: BlobId) -> list[int]:
        return [number for number in self.trees.find_all(tree) if self.tables.entry(number).id == tree]

    def _read_trees(self, numbers: Sequence[int]) -> None:
        at = 0
        while at < len(numbers):
            row = self.tables.row_of(numbers[at])
            end = at
            here = self.tables.numbers(row)
            while end < len(numbers) and numbers[end] in here:
                end += 1
            entries = [(number, self.tables.entry(number)) for number in numbers[at:end]]
            for _, entry, _, body in read_entries(self.vault, self.tables.pack(row), entries):
                if isinstance(body, Unreadable):
                    self._read_elsewhere(entry.id, row, body)
                else:
                    self._note(entry.id, body)
            at = end
            self.progress("trees", self.read, 0)

    def _read_elsewhere(self, tree: BlobId, failed: int, unreadable: Unreadable) -> None:
        """Read a tree in another of its places, since it cannot be in row `failed`."""
        for number in self._places(tree):
            row = self.tables.row_of(number)
            entries = [(number, self.tables.entry(number))] if row != failed else []
            for _, _, _, body in read_entries(self.vault, self.tables.pack(row), entries):
                if not isinstance(body, Unreadable):
                    self._note(tree, body)
                    return
        self.problems.add(f"tree {tree.hex()} in {self.tables.pack(failed)}", unreadable.reason)

    def _note(self, tree: BlobId, body: bytes) -> None:
        self.read += 1
        name = f"tree {tree.hex()}"
        try:
            for subtree, content in references(body, name):
                if subtree:
                    self._reach(subtree, name)
                if content:
                    self.wanted.add(content)
        except DamagedVault as error:
            self.problems.add(name, str(error.fields["detail"]))


def _mark_data(tables: PackTables, data: BlobParts, wanted: WantedBlobs, marks: Marks, problems: Findings) -> None:
    """Mark the blobs of files, the ids of one first byte at a time."""
    states = marks.states
    for part in range(PARTS):
        prefixes, numbers = data.take(part)
        missing = wanted.take(part)
        found = [(prefix, number) for prefix, number in zip(prefixes, numbers, strict=True) if prefix in missing]
        for _, number in found:
            states[number] = NEEDED
        once = {prefix for prefix, _ in found}
        if len(once) < len(found):
            _note_groups(tables, found, marks)
        missing -= once
        for prefix in sorted(missing):
            problems.add(
                f"data blob {prefix:0{2 * PREFIX_BYTES}x}...", "no pack that is there has it, and a file needs it"
            )


def _note_groups(tables: PackTables, found: list[tuple[int, int]], marks: Marks) -> None:
    """Note which of the entries are of one blob."""
    groups: dict[BlobId, list[int]] = {}
    before = None
    for prefix, number in sorted(found):
        if before is not None and before[0] == prefix:
            for entry in (before[1], number):
                members = groups.setdefault(tables.entry(entry).id, [])
                if entry not in members:
                    members.append(entry)
        before = prefix, number
    for members in groups.values():
        if len(members) > 1:
            marks.add_group(members)
