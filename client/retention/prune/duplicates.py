"""Which copy of a blob is kept where several packs have one.

Kept true: the copy that is kept was opened just now, so that none goes because of another that is rotten; which it is
depends on what the index files say alone, never on a cache, nor on the order in which anything was read: whoever
decides again, after a crash or on another device, decides the same.
"""

from array import array
from collections.abc import Iterator, Sequence

from client.reachability.findings import Findings, Progress
from client.reachability.marking import DUPLICATE, NEEDED, Marks
from client.reachability.reading import Unreadable, read_entries
from client.reachability.tables import PackTables
from client.vault.repository import Vault

_SHARES = 1 << 20


def choose_copies(vault: Vault, tables: PackTables, marks: Marks, problems: Findings, progress: Progress) -> None:
    """Of each group of `marks` leave one entry needed. Raises StoreError."""
    shares = _Shares(tables, marks)
    firsts = array("I", [min(group, key=shares.rank) for group in marks.groups()])
    bad: set[int] = set()
    for done, (number, is_whole) in enumerate(_open_each(vault, tables, sorted(firsts))):
        progress("duplicates", done, len(firsts))
        if not is_whole:
            bad.add(number)
    for first, group in zip(firsts, marks.groups(), strict=True):
        kept: int | None = first
        if first in bad:
            kept = _first_whole(vault, tables, sorted(set(group) - bad, key=shares.rank))
        if kept is None:
            entry = tables.entry(first)
            problems.add(f"{entry.kind} blob {entry.id.hex()}", f"none of its {len(group)} copies can be read")
            continue
        for number in group:
            marks.states[number] = NEEDED if number == kept else DUPLICATE


def _first_whole(vault: Vault, tables: PackTables, numbers: Sequence[int]) -> int | None:
    return next(
        (number for each in numbers for number, is_whole in _open_each(vault, tables, [each]) if is_whole), None
    )


def _open_each(vault: Vault, tables: PackTables, numbers: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Which of the entries open; numbers are in order, so that those of a pack are side by side."""
    at = 0
    while at < len(numbers):
        row = tables.row_of(numbers[at])
        here = tables.numbers(row)
        end = at
        while end < len(numbers) and numbers[end] in here:
            end += 1
        entries = [(number, tables.entry(number)) for number in numbers[at:end]]
        for number, _, _, plaintext in read_entries(vault, tables.pack(row), entries):
            yield number, not isinstance(plaintext, Unreadable)
        at = end


class _Shares:
    """How much of each pack is needed, with every copy of a blob counted."""

    def __init__(self, tables: PackTables, marks: Marks) -> None:
        self._tables = tables
        self._marks = marks
        self._shares: dict[int, int] = {}

    def rank(self, number: int) -> tuple[int, int, str, int]:
        """The least is kept: in the pack of which most is needed, then in the largest, then by name and place."""
        row = self._tables.row_of(number)
        return (
            -self._share(row),
            -self._tables.size(row),
            self._tables.pack(row).id,
            self._tables.entry(number).offset,
        )

    def _share(self, row: int) -> int:
        share = self._shares.get(row)
        if share is None:
            lengths = self._tables.lengths(row)
            numbers = self._tables.numbers(row)
            states = self._marks.states[numbers.start : numbers.stop]
            needed = sum(length for length, state in zip(lengths, states, strict=True) if state != 0)
            share = self._shares[row] = _SHARES * needed // sum(lengths)
        return share
