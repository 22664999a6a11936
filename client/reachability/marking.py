"""Which entries of the index are needed: those that some snapshot reaches.

Kept true: every tree that a snapshot reaches was opened and read, and every blob that it names was found in a pack that
is there; what was not is a problem, and with a single one nothing may be removed. Each tree is read once, whatever
the number of snapshots that share it (walk.py). Memory is a byte an entry, and four a tree that waits.

Blobs of files are looked up when all trees are read, a part of all ids at a time: none falls anywhere in the index.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from client.reachability.findings import Findings, Progress
from client.reachability.tables import PackTables
from client.reachability.walk import TreeWalk
from client.reachability.wanted import WantedBlobs
from client.vault.blob_figures import BlobFigures
from client.vault.blob_parts import PARTS, PREFIX_BYTES, BlobParts
from client.vault.blobs import ID_BYTES, BlobId
from client.vault.repository import Vault

UNUSED, NEEDED, DUPLICATE = 0, 1, 2  # what an entry is; a duplicate is needed, but another copy of it is kept

_HEAD = struct.Struct(f">Q{ID_BYTES - PREFIX_BYTES}xB12x")  # of a packed entry: the prefix of its id, and its kind
_TREE = 1  # in a packed entry


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
        sort_entries(tables, trees.add_prefix, data.add, progress)
        trees.finish()
        marks = Marks(tables.entries)
        _Marking(vault, tables, trees, progress, wanted=wanted, marks=marks, problems=problems).run(roots)
        _mark_data(tables, data, wanted, marks, problems)
        return marks


def sort_entries(
    tables: PackTables, tree: Callable[[int, int], None], data: Callable[[int, int], None], progress: Progress
) -> None:
    """Tell where each tree and each blob of a file lies, by the first eight bytes of its id and its entry number.

    What is in no pack that is there lies nowhere.
    """
    for row in range(len(tables)):
        if not tables.is_there(row):
            continue
        for number, (prefix, kind) in zip(tables.numbers(row), _HEAD.iter_unpack(tables.table(row)), strict=True):
            if kind & _TREE:
                tree(prefix, number)
            else:
                data(prefix, number)
        progress("packs", row + 1, len(tables))


class _Marking(TreeWalk):
    """Marks the trees, and collects what they name."""

    def __init__(
        self,
        vault: Vault,
        tables: PackTables,
        trees: BlobFigures,
        progress: Progress,
        *,
        wanted: WantedBlobs,
        marks: Marks,
        problems: Findings,
    ) -> None:
        super().__init__(vault, tables, trees, progress)
        self._wanted = wanted
        self._marks = marks
        self._problems = problems

    def mark(self, places: Sequence[int]) -> bool:
        if self._marks.states[places[0]] != UNUSED:
            return False
        for place in places:
            self._marks.states[place] = NEEDED
        if len(places) > 1:
            self._marks.add_group(places)
        return True

    def note(self, content: bytes) -> None:
        self._wanted.add(content)

    def tell(self, name: str, detail: str) -> None:
        self._problems.add(name, detail)


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
