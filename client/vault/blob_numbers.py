"""Numbers for the blobs of an index, so that what is known of each fits a bit or a field of an array.

Kept true: each blob has one number, wherever it lies twice; numbers are given out by pack, from 0 on, so that there are
about as many as there are blobs. Cost: 8 bytes a pack, and a bit a blob in a BlobSet: 6 MB for ten million blobs.
"""

from array import array

from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index


class Renumbered(Exception):
    """The index is read anew into another table: numbers given out before mean nothing now."""


class BlobNumbers:
    """Gives out numbers for blobs of one kind."""

    def __init__(self, index: Index, kind: BlobKind) -> None:
        self._index = index
        self._kind = kind
        self._starts = array("q")  # by record; -1 where none was asked for
        self._next = 0
        self._table: int | None = None

    def find(self, blob: BlobId) -> tuple[int, PackEntry] | None:
        """The number and the entry of a blob; None if no index file lists it. Raises Renumbered."""
        placed = self._index.placed(self._kind, blob)
        if placed is None:
            return None
        if self._table not in (None, placed.table):
            raise Renumbered
        self._table = placed.table
        starts, record = self._starts, placed.record
        if record >= len(starts):
            starts.extend([-1] * (record + 1 - len(starts)))
        if starts[record] < 0:
            starts[record] = self._next
            self._next += placed.length
        return starts[record] + placed.position, placed.entry


class BlobSet:
    """A set of numbers, a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> bool:
        """False if it was in the set already."""
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits) + (len(self._bits) >> 3)))
        if self._bits[at] & bit:
            return False
        self._bits[at] |= bit
        return True
