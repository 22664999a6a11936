"""What of a vault is needed to copy some of its snapshots.

Kept true: a snapshot of which a tree is lost, or a blob lies in no pack that is there, is found out before anything is
copied, and is left out; the others are copied whole. Memory is some bytes a blob (client/reachability).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.reachability.findings import Findings, Progress
from client.reachability.marking import NEEDED, Marks, mark_needed
from client.reachability.scratch import in_scratch
from client.reachability.tables import PackTables
from client.vault.blobs import PackEntry
from client.vault.index_files import iterate_entries
from client.vault.pack_sizes import PackSizes
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from domain.names import ObjectKind, ObjectName

_BATCH = 8 << 20  # plain bytes, or one blob that is larger

Numbered = tuple[int, PackEntry]


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs of one pack and one kind, each with the number of its place; `size` plain bytes together."""

    pack: ObjectName
    blobs: Sequence[Numbered]
    size: int


@dataclass(slots=True)
class Needed:
    """Some snapshots of a vault that can be copied, and where their blobs lie."""

    snapshots: Sequence[Snapshot]
    lost: dict[str, str]  # of snapshots that cannot, by their ids, what is lost
    blobs: int
    _tables: PackTables
    _marks: Marks
    _mark: Callable[[Sequence[Snapshot], Findings], Marks]

    def batches(self) -> Iterator[Batch]:
        """All that is needed, in the order in which it lies."""
        for row in range(len(self._tables)):
            numbers = self._tables.numbers(row)
            states = self._marks.states[numbers.start : numbers.stop]
            if NEEDED not in states:
                continue
            entries = zip(numbers, iterate_entries(self._tables.table(row)), states, strict=True)
            wanted = [(number, entry) for number, entry, state in entries if state == NEEDED]
            yield from _batches(self._tables.pack(row), sorted(wanted, key=lambda one: one[1].offset))

    def reaching(self, places: set[int]) -> Iterator[Snapshot]:
        """The snapshots that need a blob of one of these places. Raises StoreError."""
        for snapshot in self.snapshots if places else ():
            states = self._mark([snapshot], Findings()).states
            if any(states[place] == NEEDED for place in places):
                yield snapshot


def needed(vault: Vault, snapshots: Sequence[Snapshot], progress: Progress) -> AbstractContextManager[Needed]:
    """Find out what `snapshots` need. Raises HomeFull, HomeUnusable, StoreError."""
    return in_scratch(vault, partial(_needed, vault, snapshots, progress))


@contextmanager
def _needed(vault: Vault, snapshots: Sequence[Snapshot], progress: Progress, scratch: Path | None) -> Iterator[Needed]:
    index_files = list(vault.session.list(ObjectKind.INDEX))
    with PackTables(PackSizes(vault.session.list(ObjectKind.PACK)), scratch) as tables:
        tables.fill(vault, index_files, Findings(), progress)  # what a damaged one alone lists is lost, and told so

        def mark(roots: Sequence[Snapshot], problems: Findings) -> Marks:
            trees = [(f"snapshots/{root.id}", root.tree) for root in roots]
            return mark_needed(vault, tables, trees, problems, progress=progress, scratch=scratch)

        problems = Findings()
        marks = mark(snapshots, problems)
        lost: dict[str, str] = {}
        if problems:
            for snapshot in snapshots:
                of_one = Findings()
                mark([snapshot], of_one)
                if of_one:
                    lost[snapshot.id] = of_one.named[0]
            snapshots = [snapshot for snapshot in snapshots if snapshot.id not in lost]
            marks = mark(snapshots, Findings())
        yield Needed(snapshots, lost, marks.states.count(NEEDED), tables, marks, mark)


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
