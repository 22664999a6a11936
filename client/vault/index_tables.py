"""What index files say, kept where it can be looked up.

Kept true: a table holds contents of immutable index files under the files' ids, so it can be thrown away at any time
and several processes may fill it; which files count is said by a view of it (index_view.py), never by the table.

A *record* is a pack as one or more index files list it: the pack's id, a checksum, then its entries. Records are
numbered; blobs lead to record and position.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from client.vault.blobs import ID_BYTES, BlobId, BlobKind, Buffer, PackEntry
from client.vault.index_files import ENTRY, KINDS, IndexedPack, entry_at, iterate_entries

_CHECKSUM_BYTES = 8
_HEAD_BYTES = ID_BYTES + _CHECKSUM_BYTES
_ENTRY_NAME = struct.Struct(f"<{ID_BYTES}sB")  # id and kind, with which an entry begins

Place = tuple[int, int]  # number of a record, position in it


class BrokenTable(Exception):
    """A table cannot be used any more; whoever holds it goes on with another."""


class IndexTable(Protocol):
    """Contents of index files. Not for several threads at once; raises BrokenTable when it fails."""

    def add_files(self, files: Iterable[tuple[bytes, Sequence[IndexedPack]]]) -> None:
        """Keep what index files list, each given by its id (32 bytes) and its packs.

        What `files` raises is passed on: the files before may be kept or not.
        """

    def records_of_file(self, file: bytes) -> Sequence[int] | None:
        """The numbers of the records that a file lists; None if the file is not kept."""

    def first_place(self, blob: BlobId) -> Place | None:
        """One of `places`, the quick way."""

    def places(self, blob: BlobId) -> Sequence[Place]:
        """Where a blob of that id lies, in any file, of any kind."""

    def doubled(self) -> Iterator[BlobId]:
        """The ids of blobs that have several places, each once."""

    def records_of_pack(self, pack: bytes) -> Sequence[int]:
        """The records of a pack; several only if index files differ about it, or two processes read them at once."""

    def record(self, number: int) -> Buffer:
        """A record; the buffer is valid until files are added, or the table is closed."""

    def close(self) -> None:
        """Let go of files."""


def encode_record(pack: IndexedPack) -> bytes:
    return pack.pack + _checksum(pack.pack, pack.table) + pack.table


def record_pack(record: Buffer) -> bytes:
    """The id of a record's pack."""
    return bytes(record[:ID_BYTES])


def record_length(record: Buffer) -> int:
    """The number of a record's entries."""
    return (len(record) - _HEAD_BYTES) // ENTRY.size


def record_entry(record: Buffer, position: int, blob: BlobId) -> PackEntry:
    """The entry at a position of a record; it must be the blob's. Raises BrokenTable."""
    try:
        entry = entry_at(record, entry_start(position))
    except struct.error:
        raise BrokenTable("a place leads nowhere") from None
    if entry.id != blob:
        raise BrokenTable("a place leads to another blob")
    return entry


def entry_start(position: int) -> int:
    """The byte of a record at which the entry at a position begins."""
    return _HEAD_BYTES + position * ENTRY.size


def name_at(record: Buffer, start: int) -> tuple[BlobId, BlobKind] | None:
    """Id and kind of the entry that begins at byte `start` of a record; None if no whole one does."""
    if start > len(record) - ENTRY.size:
        return None
    identity, number = _ENTRY_NAME.unpack_from(record, start)
    return identity, KINDS[number & 1]


def record_entries(record: Buffer) -> list[PackEntry]:
    """All entries of a record, which must be whole. Raises BrokenTable."""
    table = bytes(record[_HEAD_BYTES:])
    if bytes(record[ID_BYTES:_HEAD_BYTES]) != _checksum(record_pack(record), table) or len(table) % ENTRY.size:
        raise BrokenTable("a record has another checksum")
    return list(iterate_entries(table))


def _checksum(pack: bytes, table: bytes) -> bytes:
    return blake2b(table, digest_size=_CHECKSUM_BYTES, key=pack).digest()


class MemoryTable:
    """A table in memory: for what is not in an index file yet, and where no cache can be had."""

    def __init__(self) -> None:
        self._files: dict[bytes, list[int]] = {}
        self._records: list[bytes] = []
        self._packs: dict[bytes, list[int]] = {}
        self._blobs: dict[bytes, int | tuple[int, ...]] = {}  # record << 32 | position

    def add_files(self, files: Iterable[tuple[bytes, Sequence[IndexedPack]]]) -> None:
        for file, packs in files:
            self._files[file] = [self._add_pack(pack) for pack in packs]

    def _add_pack(self, pack: IndexedPack) -> int:
        record = encode_record(pack)
        numbers = self._packs.setdefault(pack.pack, [])
        for number in numbers:
            if self._records[number] == record:
                return number
        number = len(self._records)
        self._records.append(record)
        numbers.append(number)
        for position, identity in enumerate(pack.ids):
            place = number << 32 | position
            known = self._blobs.get(identity)
            if known is None:
                self._blobs[identity] = place
            else:
                self._blobs[identity] = (*_many(known), place)
        return number

    def records_of_file(self, file: bytes) -> Sequence[int] | None:
        return self._files.get(file)

    def first_place(self, blob: BlobId) -> Place | None:
        known = self._blobs.get(blob)
        return None if known is None else divmod(_many(known)[0], 1 << 32)

    def places(self, blob: BlobId) -> Sequence[Place]:
        known = self._blobs.get(blob)
        if known is None:
            return ()
        return [divmod(place, 1 << 32) for place in _many(known)]

    def doubled(self) -> Iterator[BlobId]:
        return (blob for blob, known in self._blobs.items() if isinstance(known, tuple))

    def records_of_pack(self, pack: bytes) -> Sequence[int]:
        return self._packs.get(pack, ())

    def record(self, number: int) -> Buffer:
        return self._records[number]

    def close(self) -> None:
        """Nothing to let go of."""


def _many(known: int | tuple[int, ...]) -> tuple[int, ...]:
    return known if isinstance(known, tuple) else (known,)
