"""What index files say of each pack, kept in a temporary file, and numbers for all that lies in them.

Kept true: it comes from the index files that the session lists, whatever a cache holds; a pack is one row, with all
that any index file says of it. Memory is 28 bytes a pack, beside the listing's, and four for each time that a file
lists one.

An *entry number* is the number of a blob's place: entries are numbered row after row, from 0 on.
"""

import mmap
import os
import struct
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from client.errors import DamagedVault, ObjectMissing
from client.reachability.findings import Progress
from client.stores.abc import ObjectInfo
from client.vault.blob_figures import BlobFigures
from client.vault.blobs import ID_BYTES, SEAL_OVERHEAD, BlobId, PackEntry
from client.vault.index_files import ENTRY, IndexedPack, entry_at
from client.vault.pack_sizes import PackSizes
from client.vault.packs import ENTRY_BYTES
from client.vault.repository import Vault, reason_unread
from domain.names import ObjectKind, ObjectName

_BUFFER = 1 << 20
_KIND_AT = ID_BYTES  # where in a packed entry its kind is
_PLACES = struct.Struct("<33xIII")  # of a packed entry: offset, length, uncompressed length
_NO_ROW = -1
_NOT_LISTED = -1


@dataclass(frozen=True, slots=True)
class ListingFile:
    """An index file of `size` bytes and the rows that it lists, with their entries together; the `number`th noted."""

    number: int
    name: ObjectName
    size: int
    rows: "array[int]"
    entries: int


class PackTables:
    """First filled with index files, then finished, then asked. Raises OSError."""

    def __init__(self, sizes: PackSizes, scratch: Path | None) -> None:
        """`sizes` are the packs that the session lists. The file lies in `scratch`, and has no name."""
        self.sizes = sizes
        self.files: list[ListingFile] = []
        self._file = tempfile.TemporaryFile(buffering=0, dir=scratch)  # noqa: SIM115 - closed in `close`
        self._buffer = bytearray()
        self._written = 0
        self._row_at = array("i", [_NO_ROW]) * len(sizes)  # by position in the listing
        self._missing: dict[bytes, int] = {}  # rows of packs that are not listed
        self._missing_names: dict[int, ObjectName] = {}
        self._positions = array("i")  # of each row
        self._offsets = array("Q")
        self._counts = array("I")
        self._starts = array("Q")
        self._grown_by: dict[int, int] = {}  # rows: the number of the last file that said more than those before it
        self._partial: set[int] = set()  # numbers of files that say less of a pack than one before them
        self._map: mmap.mmap | None = None
        self.entries = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def add_file(self, name: ObjectName, size: int, packs: Sequence[IndexedPack]) -> None:
        """Note an index file of `size` bytes."""
        rows = array("I", [self._add_pack(pack) for pack in packs])
        self.files.append(ListingFile(len(self.files), name, size, rows, sum(map(len, packs))))

    def fill(
        self,
        vault: Vault,
        listed: Sequence[ObjectInfo],
        damaged: Callable[[ObjectName, str], object],
        progress: Progress,
    ) -> None:
        """Note all index files of a vault, and finish. `damaged` hears of those that cannot be read, and why.

        Raises StoreError.
        """
        for done, info in enumerate(listed):
            progress("index files", done, len(listed))
            try:
                self.add_file(info.name, info.size, vault.read_index_file(info.name).packs)
            except (DamagedVault, ObjectMissing) as error:
                damaged(info.name, reason_unread(error))
        self.finish()

    def _add_pack(self, pack: IndexedPack) -> int:
        position = self.sizes.find(pack.pack)
        row = self._missing.get(pack.pack, _NO_ROW) if position is None else self._row_at[position]
        if row != _NO_ROW:
            self._merge(row, pack.table)
            return row
        row = len(self._offsets)
        if position is None:
            self._missing[pack.pack] = row
            self._missing_names[row] = ObjectName(ObjectKind.PACK, pack.pack.hex())
            self._positions.append(_NOT_LISTED)
        else:
            self._row_at[position] = row
            self._positions.append(position)
        self._offsets.append(self._append(pack.table))
        self._counts.append(len(pack))
        return row

    def _append(self, table: bytes) -> int:
        at = self._written + len(self._buffer)
        self._buffer += table
        if len(self._buffer) >= _BUFFER:
            self._flush()
        return at

    def _flush(self) -> None:
        rest = memoryview(self._buffer)
        while rest:
            written = os.write(self._file.fileno(), rest)
            self._written += written
            rest = rest[written:]
        self._buffer = bytearray()

    def _merge(self, row: int, table: bytes) -> None:
        """Another index file lists the pack: what it says more is added."""
        self._flush()
        known = os.pread(self._file.fileno(), self._counts[row] * ENTRY.size, self._offsets[row])
        if known == table:
            return
        entries, more = dict.fromkeys(_packed(known)), dict.fromkeys(_packed(table))
        if entries.keys() == more.keys():
            return
        known_before = len(entries)
        entries.update(more)
        if len(entries) > len(more):
            self._partial.add(len(self.files))
        if len(entries) > known_before:
            self._grown_by[row] = len(self.files)
            self._offsets[row] = self._append(b"".join(entries))
            self._counts[row] = len(entries)

    def finish(self) -> None:
        """All index files are noted."""
        self._flush()
        for count in self._counts:
            self._starts.append(self.entries)
            self.entries += count
        if self._written:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    # Rows

    def pack(self, row: int) -> ObjectName:
        position = self._positions[row]
        return self._missing_names[row] if position == _NOT_LISTED else self.sizes.name(position)

    def size(self, row: int) -> int:
        """The size in bytes of the row's pack; 0 if the session does not list it."""
        position = self._positions[row]
        return 0 if position == _NOT_LISTED else self.sizes.size(position)

    def row_at(self, position: int) -> int | None:
        """The row of the pack at a position of the listing; None if no index file lists it."""
        row = self._row_at[position]
        return None if row == _NO_ROW else row

    def lists(self, pack: ObjectName) -> bool:
        """Whether an index file lists a pack that the session lists."""
        position = self.sizes.find(bytes.fromhex(pack.id))
        return position is not None and self._row_at[position] != _NO_ROW

    def numbers(self, row: int) -> range:
        """The numbers of a row's entries."""
        return range(self._starts[row], self._starts[row] + self._counts[row])

    def table(self, row: int) -> bytes:
        """A row's entries, as `IndexedPack.table` has them."""
        at = self._offsets[row]
        return b"" if self._map is None else self._map[at : at + self._counts[row] * ENTRY.size]

    def indexed(self, row: int) -> IndexedPack:
        """A row, in full, for a new index file."""
        return IndexedPack(bytes.fromhex(self.pack(row).id), self.table(row))

    def is_there(self, row: int) -> bool:
        """Whether the session lists the pack, and as large as what is said to lie in it."""
        table = self.table(row)
        end, header = 0, SEAL_OVERHEAD
        for offset, length, plain in _PLACES.iter_unpack(table):
            end = max(end, offset + length)
            header += ENTRY_BYTES[bool(plain)]
        return self._positions[row] != _NOT_LISTED and self.size(row) >= end + header

    def kinds(self, row: int) -> frozenset[int]:
        """The kinds of a row's blobs, by their places in KINDS."""
        return frozenset(kind & 1 for kind in self.table(row)[_KIND_AT :: ENTRY.size])

    def lengths(self, row: int) -> list[int]:
        """The sealed lengths of a row's entries, in bytes."""
        return [length for _, length, _ in _PLACES.iter_unpack(self.table(row))]

    def is_exact(self, file: ListingFile) -> bool:
        """Whether an index file says of each of its packs all that there is, and once."""
        if file.number in self._partial or len({*file.rows}) < len(file.rows):
            return False
        return not self._grown_by or all(self._grown_by.get(row, 0) <= file.number for row in file.rows)

    # Entries

    def row_of(self, number: int) -> int:
        """The row in which an entry lies."""
        return bisect_right(self._starts, number) - 1

    def entry(self, number: int) -> PackEntry:
        row = self.row_of(number)
        at = self._offsets[row] + (number - self._starts[row]) * ENTRY.size
        return entry_at(self._view()[at : at + ENTRY.size], 0)

    def places(self, noted: BlobFigures, blob: BlobId) -> list[int]:
        """The entries of a blob, ascending, of those that are `noted`."""
        return [number for number in noted.find_all(blob) if self._id_at(number) == blob]

    def _id_at(self, number: int) -> BlobId:
        row = self.row_of(number)
        at = self._offsets[row] + (number - self._starts[row]) * ENTRY.size
        return self._view()[at : at + ID_BYTES]

    def _view(self) -> mmap.mmap:
        if self._map is None:
            raise IndexError("there are no entries")
        return self._map

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _packed(table: bytes) -> Iterator[bytes]:
    return (table[at : at + ENTRY.size] for at in range(0, len(table), ENTRY.size))
