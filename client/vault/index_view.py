"""A table of index contents as one session sees it.

Kept true: of what the table holds those records count that are listed by index files which the session sees, and all
that is answered comes from these.
"""

from array import array
from collections.abc import Iterator, Sequence

from client.vault.blobs import BlobId, BlobKind, Buffer, PackEntry
from client.vault.index_files import ENTRY, IndexedPack, entry_at
from client.vault.index_tables import (
    BrokenTable,
    IndexTable,
    entry_start,
    name_at,
    record_entries,
    record_entry,
    record_length,
    record_pack,
)

_MOST_BEHIND = 4096  # entries remembered at once: some 1 MiB

Found = tuple[bytes, PackEntry]  # the id of a pack, and a blob's entry in it


class View:
    """Not for several threads at once; raises BrokenTable when the table fails."""

    def __init__(self, table: IndexTable) -> None:
        """Nothing counts yet."""
        self.table = table
        self._times = array("I")  # that each record is listed

    def take(self, file: bytes, packs: Sequence[IndexedPack]) -> None:
        """Keep what an index file lists, given by its id, and have it count."""
        self.table.add_files([(file, packs)])
        self.count(file)

    def count(self, file: bytes) -> None:
        """An index file counts from now on, if the table has it."""
        times = self._times
        for number in self.table.records_of_file(file) or ():
            if number >= len(times):
                more = number + 1 - len(times) + (len(times) >> 1)
                times.frombytes(bytes(more * times.itemsize))
            times[number] += 1

    def leave_out(self, pack: bytes) -> None:
        """The records of a pack count no more, whoever lists them."""
        for number in self.table.records_of_pack(pack):
            if number < len(self._times):
                self._times[number] = 0

    def __contains__(self, number: int) -> bool:
        return number < len(self._times) and self._times[number] > 0

    def times_listed(self, pack: bytes) -> int:
        """How often index files list a pack."""
        records = self.table.records_of_pack(pack)
        return sum(self._times[number] for number in records if number in self)

    def find(self, kind: BlobKind, blob: BlobId) -> Found | None:
        """One place of a blob."""
        place = self.table.first_place(blob)
        if place is None:
            return None
        found = self._at(*place, kind, blob) if place[0] in self else None
        return found or next(iter(self.find_all(kind, blob)), None)

    def find_one_of_each(self, kind: BlobKind, blobs: Sequence[BlobId]) -> list[Found | None]:
        """One place of each blob."""
        found: list[Found | None] = []
        for blob, spot in zip(blobs, self._spots(kind, blobs), strict=True):
            if spot is None:
                found.append(self.find(kind, blob))
            else:
                record, start = spot
                found.append((record_pack(record), entry_at(record, start)))
        return found

    def _spots(self, kind: BlobKind, blobs: Sequence[BlobId]) -> Iterator[tuple[Buffer, int] | None]:
        """Of each blob a record that counts and the byte where its entry begins; None if that takes `find`.

        What comes one after another in a folder mostly does so in one of the packs that were being filled. So of each
        entry that was found the one behind it is remembered: that takes a fifth of asking the table. Where the order is
        another, those that nobody asks for are forgotten now and then.
        """
        records: dict[int, Buffer] = {}
        behind: dict[bytes, tuple[Buffer, int]] = {}
        for blob in blobs:
            spot = behind.pop(blob, None) or self._first_spot(kind, blob, records)
            if spot is not None:
                record, start = spot
                start += ENTRY.size
                following = name_at(record, start)
                if following is not None and following[1] is kind:
                    if len(behind) == _MOST_BEHIND:
                        behind.clear()
                    behind[following[0]] = record, start
            yield spot

    def _first_spot(self, kind: BlobKind, blob: BlobId, records: dict[int, Buffer]) -> tuple[Buffer, int] | None:
        """As `_spots`, of the first place of one blob; `records` keeps what was asked for."""
        place = self.table.first_place(blob)
        if place is None:
            return None
        number, position = place
        record = records.get(number)
        if record is None:
            if number not in self:
                return None
            record = records[number] = self.table.record(number)
        start = entry_start(position)
        named = name_at(record, start)
        if named is None:
            raise BrokenTable("a place leads nowhere")
        if named[0] != blob:
            raise BrokenTable("a place leads to another blob")
        return (record, start) if named[1] is kind else None

    def find_all(self, kind: BlobKind, blob: BlobId) -> list[Found]:
        """All places of a blob, each once."""
        all_found: list[Found] = []
        if self.table.first_place(blob) is None:  # most of what a backup asks for; the quick way
            return all_found
        for number, position in self.table.places(blob):
            if number in self:
                found = self._at(number, position, kind, blob)
                if found is not None and found not in all_found:
                    all_found.append(found)
        return all_found

    def _at(self, number: int, position: int, kind: BlobKind, blob: BlobId) -> Found | None:
        record = self.table.record(number)
        entry = record_entry(record, position, blob)
        return (record_pack(record), entry) if entry.kind == kind else None

    def has_all(self, kind: BlobKind, blobs: Sequence[BlobId]) -> bool:
        """Whether each blob is found."""
        if len(blobs) == 1:  # as of most files that are looked at one by one; the quick way
            return self._first_spot(kind, blobs[0], {}) is not None or self.find(kind, blobs[0]) is not None
        for blob, spot in zip(blobs, self._spots(kind, blobs), strict=True):
            if spot is None and self.find(kind, blob) is None:
                return False
        return True

    def place(self, kind: BlobKind, blob: BlobId) -> tuple[int, int, int, PackEntry] | None:
        """Of the first place of a blob the number of its record, the position there, the record's length; the entry."""
        for number, position in self.table.places(blob):
            if number in self:
                record = self.table.record(number)
                entry = record_entry(record, position, blob)
                if entry.kind == kind:
                    return number, position, record_length(record), entry
        return None

    def count_doubled(self) -> int:
        """How many entries are of blobs that lie in more than one place."""
        places = (len(self.find_all(kind, blob)) for blob in self.table.doubled() for kind in BlobKind)
        return sum(count for count in places if count > 1)

    def entries(self, pack: bytes) -> list[PackEntry]:
        """All that lies in a pack, by offset, whatever index files differ about it."""
        merged: dict[PackEntry, None] = {}
        for number in self.table.records_of_pack(pack):
            if number in self:
                merged.update(dict.fromkeys(record_entries(self.table.record(number))))
        return sorted(merged, key=lambda entry: entry.offset)

    def next_pack(self, after: int) -> tuple[int, bytes, list[PackEntry] | None] | None:
        """The next record, its pack and all entries of that; no entries if the pack had an earlier record."""
        number = next((number for number in range(after + 1, len(self._times)) if self._times[number]), None)
        if number is None:
            return None
        pack = record_pack(self.table.record(number))
        first = min(other for other in self.table.records_of_pack(pack) if other in self)
        return number, pack, self.entries(pack) if first == number else None
