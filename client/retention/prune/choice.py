"""Which packs stay, go, and are repacked.

Kept true: a pack goes only if nothing in it is needed; the choice depends on nothing but what the packs hold and on
the limits. Those with the largest unused share are repacked first, until what stays unused is within the limit: that
costs the fewest bytes a byte freed. Small packs are put together only where they are many or make a full one, so that
what is left over of one run is not moved again by each that follows.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from client.reachability.marking import DUPLICATE, NEEDED, Marks
from client.reachability.tables import PackTables
from client.retention.prune.limits import PruneLimits
from client.vault.index_files import KINDS
from client.vault.packs import MAX_BLOBS, PACK_TARGET
from client.vault.sealing import COMPRESSED_VERSION

KEEP, REMOVE, REPACK = 0, 1, 2  # what becomes of a pack

MANY_SMALL = 10
_FEW_BLOBS = MAX_BLOBS // 2  # with more, a pack is not small, however few its bytes
_STEPS = 1000  # of the unused share


@dataclass(slots=True)
class Amount:
    """A number of blobs and their sealed bytes."""

    blobs: int = 0
    bytes: int = 0

    def add(self, blobs: int, size: int) -> None:
        self.blobs += blobs
        self.bytes += size


@dataclass(slots=True)
class Choice:
    """What becomes of each row's pack, and what that comes to.

    `left` is what stays unused, duplicates included; `postponed` counts packs that only `repack_bytes` kept from being
    repacked; `moved` is needed and lies in those that are.
    """

    actions: bytearray
    needed: Amount = field(default_factory=Amount)
    unused: Amount = field(default_factory=Amount)
    duplicate: Amount = field(default_factory=Amount)
    left: Amount = field(default_factory=Amount)
    postponed: int = 0
    moved: Amount = field(default_factory=Amount)

    def keep(self, row: int, blobs: int, size: int) -> None:
        """A pack that was to be repacked stays, with so much that is not needed."""
        self.actions[row] = KEEP
        self.left.add(blobs, size)

    def rows(self, action: int) -> Iterator[int]:
        row = self.actions.find(action)
        while row >= 0:
            yield row
            row = self.actions.find(action, row + 1)


def choose_packs(tables: PackTables, marks: Marks, limits: PruneLimits, version: int) -> Choice:
    """Decide about every row; `version` is the repository's."""
    return _Chooser(tables, marks, limits, version).run()


class _Chooser:
    def __init__(self, tables: PackTables, marks: Marks, limits: PruneLimits, version: int) -> None:
        self._tables = tables
        self._marks = marks
        self._limits = limits
        self._version = version
        self._choice = Choice(bytearray(len(tables)))
        self._unneeded_blobs = array("I")  # by row
        self._unneeded_bytes = array("Q")
        self._needed_blobs = array("I")
        self._needed_bytes = array("Q")
        self._mixed = array("I")
        self._by_share = [array("I") for _ in range(_STEPS + 1)]
        self._small = [array("I") for _ in KINDS]
        self._repacked = 0

    def run(self) -> Choice:
        choice = self._choice
        for row in range(len(self._tables)):
            self._sort(row)
        for row in self._mixed:
            self._repack(row)
        allowed = self._limits.unused_allowed(choice.needed.bytes)
        for rows in reversed(self._by_share):
            for row in rows:
                if choice.left.bytes > allowed and choice.actions[row] == KEEP:
                    self._repack(row)
        for rows in self._small:
            self._repack_small([row for row in rows if choice.actions[row] == KEEP])
        return choice

    def _sort(self, row: int) -> None:
        """Count what lies in a pack, and note what may become of it."""
        choice, lengths, numbers = self._choice, self._tables.lengths(row), self._tables.numbers(row)
        states = self._marks.states[numbers.start : numbers.stop]
        total = sum(lengths)
        needed, duplicates = states.count(NEEDED), states.count(DUPLICATE)
        needed_bytes = total if needed == len(states) else _sum(lengths, states, NEEDED)
        duplicate_bytes = _sum(lengths, states, DUPLICATE) if duplicates else 0
        unneeded = len(states) - needed, total - needed_bytes
        choice.needed.add(needed, needed_bytes)
        choice.duplicate.add(duplicates, duplicate_bytes)
        choice.unused.add(unneeded[0] - duplicates, unneeded[1] - duplicate_bytes)
        self._unneeded_blobs.append(unneeded[0])
        self._unneeded_bytes.append(unneeded[1])
        self._needed_blobs.append(needed)
        self._needed_bytes.append(needed_bytes)
        if not needed:
            choice.actions[row] = REMOVE
            return
        choice.left.add(*unneeded)
        kinds = self._tables.kinds(row)
        if len(kinds) > 1 and self._version >= COMPRESSED_VERSION:
            self._mixed.append(row)
        elif unneeded[0]:
            self._by_share[_STEPS * unneeded[1] // total].append(row)
        if self._tables.size(row) < self._limits.small_pack and len(states) < _FEW_BLOBS:
            self._small[min(kinds)].append(row)

    def _repack_small(self, rows: Sequence[int]) -> None:
        size = sum(map(self._tables.size, rows))
        if len(rows) >= MANY_SMALL or (len(rows) > 1 and size >= PACK_TARGET):
            for row in rows:
                self._repack(row)

    def _repack(self, row: int) -> None:
        size = self._tables.size(row)
        if self._limits.repack_bytes is not None and self._repacked + size > self._limits.repack_bytes:
            self._choice.postponed += 1
            return
        self._repacked += size
        self._choice.actions[row] = REPACK
        self._choice.moved.add(self._needed_blobs[row], self._needed_bytes[row])
        self._choice.left.add(-self._unneeded_blobs[row], -self._unneeded_bytes[row])


def _sum(lengths: Sequence[int], states: bytearray, wanted: int) -> int:
    return sum(length for length, state in zip(lengths, states, strict=True) if state == wanted)
