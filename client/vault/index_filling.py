"""Index files being entered into a table's databases, many at a time.

Kept true: whatever interrupts it, a file counts as kept only when all that it lists can be found; memory and pages that
wait for a commit are bounded, whatever the number of blobs. A batch is entered in the order records, places, packs,
files, in as many transactions as that takes. So what a crash leaves are records that no file lists, and places that
lead to them: they count for nobody, and the files are read again. Of two processes that enter a file at once both
keep its records, and the first that is done has its own counted.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from client.vault.index_files import IndexedPack
from client.vault.index_places import Places
from client.vault.index_tables import encode_record

NUMBER = struct.Struct(">I")  # of a record
_BATCH_BLOBS = 1 << 20  # 65 MB while they wait; the fewer batches, the less often the tree is written
_WAITING_BLOBS = 1 << 17
_DIRTY_PAGES = 1024  # that wait for a commit: 4 MiB, which LMDB keeps afterwards
_PLACES_A_PAGE = 50
_PARTS = 4  # of `_DIRTY_PAGES`, between which a commit may come


@dataclass(frozen=True, slots=True)
class Databases:
    """An LMDB environment and what is in it.

    `files`: id of an index file to the numbers of its records; `records`: number to record; `packs`: id of a pack to
    the numbers of its records; `blobs`: id to places.
    """

    environment: Any
    meta: Any
    files: Any
    records: Any
    packs: Any
    blobs: Any


class Filling:
    """Takes index files one after another. Raises lmdb.Error."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._waiting: list[tuple[bytes, Sequence[IndexedPack]]] = []
        self._waiting_blobs = 0
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._places = Places()
        self._packs: dict[bytes, list[int]] = {}  # new records of the batch
        self._files: list[tuple[bytes, bytes]] = []

    def add(self, file: bytes, packs: Sequence[IndexedPack]) -> None:
        """Enter an index file, now or with the next ones."""
        self._waiting.append((file, packs))
        self._waiting_blobs += sum(map(len, packs))
        if len(self._places) + self._waiting_blobs >= _BATCH_BLOBS:
            self.finish()
        elif self._waiting_blobs >= _WAITING_BLOBS:
            with _Writing(self._databases.environment) as writing:
                self._enter_records(writing)

    def finish(self) -> None:
        """Enter all that was added."""
        databases = self._databases
        with _Writing(databases.environment) as writing:
            self._enter_records(writing)
            self._enter_places(writing)
            for pack, numbers in self._packs.items():
                writing.make_room(1 / _PARTS)
                for number in numbers:
                    writing.change.put(pack, NUMBER.pack(number), db=databases.packs)
            for file, packed in self._files:
                writing.change.put(file, packed, db=databases.files, overwrite=False)
        self._begin_batch()

    def _enter_records(self, writing: "_Writing") -> None:
        for file, packs in self._waiting:
            if writing.change.get(file, db=self._databases.files) is None:
                self._enter_file(writing, file, packs)
        self._waiting, self._waiting_blobs = [], 0

    def _enter_file(self, writing: "_Writing", file: bytes, packs: Sequence[IndexedPack]) -> None:
        records = self._databases.records
        numbers, new = [], []
        for pack in packs:
            record = encode_record(pack)
            writing.make_room(len(record) / writing.page_size)
            number = self._number_of(writing.change, pack.pack, record)
            if number is None:
                number = writing.change.stat(records)["entries"]
                writing.change.put(NUMBER.pack(number), record, db=records, append=True)
                self._packs.setdefault(pack.pack, []).append(number)
                new.append((number, pack))
            numbers.append(number)
        self._places.add_run(new)
        self._files.append((file, b"".join(map(NUMBER.pack, numbers))))

    def _number_of(self, change: Any, pack: bytes, record: bytes) -> int | None:
        """The number of a record that is there already."""
        records = self._databases.records
        for number in self._packs.get(pack, ()):
            if change.get(NUMBER.pack(number), db=records) == record:
                return number
        with change.cursor(self._databases.packs) as cursor:
            if cursor.set_key(pack):
                for packed in cursor.iternext_dup():
                    if change.get(packed, db=records) == record:
                        return int(NUMBER.unpack(packed)[0])
        return None

    def _enter_places(self, writing: "_Writing") -> None:
        count = len(self._places)
        tree = writing.change.stat(self._databases.blobs)
        pages = min(count, tree["leaf_pages"]) + count // _PLACES_A_PAGE
        parts = 1 + _PARTS * pages // _DIRTY_PAGES
        for part in self._places.slices(parts):
            writing.make_room(pages / parts)
            with writing.change.cursor(self._databases.blobs) as cursor:
                cursor.putmulti(part)


class _Writing:
    """A transaction that is committed, and another begun, when many pages wait."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._dirty = 0.0
        self.page_size = environment.stat()["psize"]
        self.change: Any = None

    def make_room(self, pages: float) -> None:
        """So many pages will be written next."""
        if self._dirty and self._dirty + pages > _DIRTY_PAGES:
            self.change.commit()
            self.change = self._environment.begin(write=True)
            self._dirty = 0.0
        self._dirty += pages

    def __enter__(self) -> Self:
        self.change = self._environment.begin(write=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.change.commit()
        else:
            self.change.abort()
