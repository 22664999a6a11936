"""The table of index contents in a folder of the device, by LMDB.

Kept true: nothing here is needed - the folder may be deleted, be full, be shared with other processes or hold
rubbish, and the worst is that index files are read again. Entries are only added: contents of files that are gone are
ignored by the view, and go when the whole cache outgrows its budget.
"""

import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from client.vault.blobs import BlobId, Buffer
from client.vault.environments import Database, environments
from client.vault.index_files import IndexedPack
from client.vault.index_filling import NUMBER, Databases, Filling
from client.vault.index_places import PLACE
from client.vault.index_tables import BrokenTable, Place

BUDGET = 4 << 30  # bytes on disk: about 30 million blobs
_TEMPORARY_BUDGET = 64 << 30
_DATABASES = (
    *(Database(b"meta"), Database(b"files"), Database(b"records")),
    *(Database(b"packs", doubling=True), Database(b"blobs", doubling=True)),
)
_LAYOUT = b"1"
_ERRORS = (lmdb.Error, OSError, struct.error)


class LmdbTable:
    """A table in `folder`. Raises BrokenTable for whatever goes wrong there, a full disk and a full budget included."""

    durable = True

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self._folder = folder.absolute()
        self._reader: Any = None
        self._environment: Any = None
        with _broken():
            opened = environments.open(self._folder, budget, _DATABASES, durable=self.durable)
        self._environment = opened.environment
        self._databases = Databases(opened.environment, *opened.handles)
        try:
            self._ensure_layout()
        except BaseException:
            self.close()
            raise

    def _ensure_layout(self) -> None:
        with _broken(), self._environment.begin(write=True) as change:
            layout = change.get(b"layout", db=self._databases.meta)
            if layout is None:
                change.put(b"layout", _LAYOUT, db=self._databases.meta)
        if layout not in (None, _LAYOUT):
            raise BrokenTable("the cache has another layout")

    def add_files(self, files: Iterable[tuple[bytes, Sequence[IndexedPack]]]) -> None:
        self._end_reading()
        filling = Filling(self._databases)
        for file, packs in files:
            with _broken():
                filling.add(file, packs)
        with _broken():
            filling.finish()

    def records_of_file(self, file: bytes) -> Sequence[int] | None:
        with _broken():
            numbers = self._reading().get(file, db=self._databases.files)
            return None if numbers is None else [number for (number,) in NUMBER.iter_unpack(bytes(numbers))]

    def first_place(self, blob: BlobId) -> Place | None:
        try:  # asked for every blob of every backup: a context manager would be a third of its cost
            place = (self._reader or self._reading()).get(blob, db=self._databases.blobs)
            return None if place is None else PLACE.unpack(place)
        except _ERRORS as error:
            raise BrokenTable(str(error)) from None

    def places(self, blob: BlobId) -> Sequence[Place]:
        with _broken():
            return [PLACE.unpack(place) for place in self._duplicates(self._databases.blobs, blob)]

    def doubled(self) -> Iterator[BlobId]:
        before = found = None
        with _broken(), self._reading().cursor(self._databases.blobs) as cursor:
            for blob in cursor.iternext(values=False):
                if blob == before and blob != found:
                    found = bytes(blob)
                    yield found
                before = blob

    def records_of_pack(self, pack: bytes) -> Sequence[int]:
        with _broken():
            return [NUMBER.unpack(number)[0] for number in self._duplicates(self._databases.packs, pack)]

    def _duplicates(self, database: Any, key: bytes) -> list[bytes]:
        first = self._reading().get(key, db=database)
        if first is None:
            return []
        with self._reading().cursor(database) as cursor:
            return [bytes(value) for value in cursor.iternext_dup()] if cursor.set_key(key) else []

    def record(self, number: int) -> Buffer:
        try:
            record: Buffer | None = (self._reader or self._reading()).get(
                NUMBER.pack(number), db=self._databases.records
            )
        except _ERRORS as error:
            raise BrokenTable(str(error)) from None
        if record is None:
            raise BrokenTable("a record is missing")
        return record

    def close(self) -> None:
        self._end_reading()
        environment, self._environment = self._environment, None
        if environment is not None:
            environments.close(self._folder, environment)

    def _reading(self) -> Any:
        """One long reading transaction: what it shows stays, whatever other processes do."""
        if self._reader is None:
            if self._environment is None:
                raise BrokenTable("the table is closed")
            self._reader = self._environment.begin(buffers=True)
        return self._reader

    def _end_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(lmdb.Error):
                reader.abort()


class TemporaryTable(LmdbTable):
    """A table in a folder of its own that is gone when the table is closed."""

    durable = False

    def __init__(self, parent: Path | None = None) -> None:
        with _broken():
            self._own = Path(tempfile.mkdtemp(prefix="oort-index-", dir=parent))
        try:
            super().__init__(self._own / "index", _TEMPORARY_BUDGET)
        except BaseException:
            shutil.rmtree(self._own, ignore_errors=True)
            raise
        if os.name == "posix":  # open files need no names, and what has none is gone even after a crash
            shutil.rmtree(self._own, ignore_errors=True)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._own, ignore_errors=True)


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise BrokenTable(str(error)) from None


def drop(folder: Path) -> None:
    """Throw a cache away; it is made again from the index files."""
    environments.drop(folder.absolute())
