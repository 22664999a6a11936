"""The table of index contents in a folder of the device, by LMDB.

Kept true: nothing here is needed - the folder may be deleted, be full, be shared with other processes or hold
rubbish, and the worst is that index files are read again. Commits are synchronous, so that a power cut leaves what
was there before; the map is never written through (`writemap` dies of SIGBUS on a full disk). Entries are only
added: contents of files that are gone are ignored by the view, and go when the whole cache outgrows its budget.
"""

import contextlib
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from client.vault.blobs import BlobId, Buffer
from client.vault.index_files import IndexedPack
from client.vault.index_tables import BrokenTable, Place, encode_record

BUDGET = 4 << 30  # bytes on disk: about 20 million blobs
_FIRST_MAP = 64 << 20
_NUMBER = struct.Struct(">I")
_PLACE = struct.Struct(">II")
_LAYOUT = b"1"
_ERRORS = (lmdb.Error, OSError)


class LmdbTable:
    """A table in `folder`. Raises BrokenTable for whatever goes wrong there, a full disk and a full budget included."""

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self._budget = budget
        self._reader: Any = None
        self._environment: Any = None
        with _broken():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._environment = lmdb.open(
                str(folder), map_size=min(_FIRST_MAP, budget), max_dbs=5, mode=0o600, metasync=True, sync=True
            )
        try:
            self._open_tables()
        except BaseException:
            self.close()
            raise

    def _open_tables(self) -> None:
        with _broken():
            self._adopt_size()
            open_db = self._environment.open_db
            self._meta = open_db(b"meta")
            self._files = open_db(b"files")
            self._records = open_db(b"records", integerkey=False)
            self._packs = open_db(b"packs", dupsort=True, dupfixed=True)
            self._blobs = open_db(b"blobs", dupsort=True, dupfixed=True)
            with self._environment.begin(write=True) as change:
                layout = change.get(b"layout", db=self._meta)
                if layout is None:
                    change.put(b"layout", _LAYOUT, db=self._meta)
        if layout not in (None, _LAYOUT):
            raise BrokenTable("the cache has another layout")

    def add_file(self, file: bytes, packs: Sequence[IndexedPack]) -> None:
        while True:
            self._end_reading()
            try:
                with _broken(), self._environment.begin(write=True) as change:
                    if change.get(file, db=self._files) is None:
                        self._insert(change, file, packs)
            except _MapFull:
                self._grow()
            else:
                return

    def _insert(self, change: Any, file: bytes, packs: Sequence[IndexedPack]) -> None:
        used = change.stat(self._records)["entries"]
        numbers, places = [], []
        for pack in packs:
            record = encode_record(pack)
            number = self._number_of(change, pack.pack, record)
            if number is None:
                number, used = used, used + 1
                change.put(_NUMBER.pack(number), record, db=self._records, append=True)
                change.put(pack.pack, _NUMBER.pack(number), db=self._packs)
                places += [(entry.id, _PLACE.pack(number, place)) for place, entry in enumerate(pack.entries)]
            numbers.append(number)
        places.sort()  # neighbours share pages
        with change.cursor(self._blobs) as cursor:
            cursor.putmulti(places)
        change.put(file, b"".join(map(_NUMBER.pack, numbers)), db=self._files)

    def _number_of(self, change: Any, pack: bytes, record: bytes) -> int | None:
        with change.cursor(self._packs) as cursor:
            if cursor.set_key(pack):
                for number in cursor.iternext_dup():
                    if change.get(number, db=self._records) == record:
                        return int(_NUMBER.unpack(number)[0])
        return None

    def records_of_file(self, file: bytes) -> Sequence[int] | None:
        with _broken():
            numbers = self._reading().get(file, db=self._files)
            return None if numbers is None else [number for (number,) in _NUMBER.iter_unpack(bytes(numbers))]

    def places(self, blob: BlobId) -> Sequence[Place]:
        with _broken():
            return [_PLACE.unpack(place) for place in self._duplicates(self._blobs, blob)]

    def records_of_pack(self, pack: bytes) -> Sequence[int]:
        with _broken():
            return [_NUMBER.unpack(number)[0] for number in self._duplicates(self._packs, pack)]

    def _duplicates(self, database: Any, key: bytes) -> list[bytes]:
        first = self._reading().get(key, db=database)
        if first is None:
            return []
        with self._reading().cursor(database) as cursor:
            return [bytes(value) for value in cursor.iternext_dup()] if cursor.set_key(key) else []

    def record(self, number: int) -> Buffer:
        with _broken():
            record: Buffer | None = self._reading().get(_NUMBER.pack(number), db=self._records)
        if record is None:
            raise BrokenTable("a record is missing")
        return record

    def close(self) -> None:
        self._end_reading()
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _reading(self) -> Any:
        """One long reading transaction: what it shows stays, whatever other processes do."""
        if self._reader is None:
            if self._environment is None:
                raise BrokenTable("the table is closed")
            self._adopt_size()
            self._reader = self._environment.begin(buffers=True)
        return self._reader

    def _end_reading(self) -> None:
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def _adopt_size(self) -> None:
        """Take over the map size that another process may have set."""
        self._environment.set_mapsize(0)

    def _grow(self) -> None:
        size = self._environment.info()["map_size"]
        if size >= self._budget:
            raise BrokenTable(f"the index needs more than {self._budget} bytes of cache")
        with _broken():
            self._environment.set_mapsize(min(2 * size, self._budget))


class TemporaryTable(LmdbTable):
    """A table in a folder of its own that is gone when the table is closed."""

    def __init__(self, parent: Path | None = None) -> None:
        with _broken():
            self._folder = Path(tempfile.mkdtemp(prefix="oort-index-", dir=parent))
        try:
            super().__init__(self._folder, budget=1 << 40)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _MapFull(BrokenTable):
    """The map is full and may be grown."""


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except lmdb.MapFullError as error:
        raise _MapFull(str(error)) from None
    except (*_ERRORS, struct.error) as error:
        raise BrokenTable(str(error)) from None


def drop(folder: Path) -> None:
    """Throw a cache away. Processes that have it open go on with what they have mapped."""
    shutil.rmtree(folder, ignore_errors=True)
