"""Which blobs a session finds in its vault, and where.

Kept true: only index files that the session lists count, whatever a cache holds; a blob that was added in this
session is found at once; memory does not grow with the vault where a cache folder can be had. When a table breaks
(a full disk, a full budget, rubbish in the cache) the index is read again into the next kind of table: cache folder,
temporary folder, memory. An index file that cannot be read is named in `damaged`, and what it lists is absent.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeVar

from client.errors import DamagedVault, ObjectMissing
from client.vault import index_cache
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index_cache import BUDGET, LmdbTable, TemporaryTable
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file, split
from client.vault.index_tables import BrokenTable, IndexTable, MemoryTable
from client.vault.index_view import View
from domain.names import ObjectKind, ObjectName

T = TypeVar("T")


class Location(NamedTuple):
    """A blob's place in the vault."""

    pack: ObjectName
    entry: PackEntry


class Placed(NamedTuple):
    """The place by which a blob is known among those of its index, and what lies there.

    `table` changes when the records are numbered anew; `record` is a small number, of which each has `length` places.
    """

    table: int
    record: int
    position: int
    length: int
    entry: PackEntry


class IndexSource(Protocol):
    """Where index files come from: a vault in a session.

    Where one session may take the place of another, `session_number` says which it is: in another, the index files
    are listed anew.
    """

    @property
    def session_number(self) -> int: ...

    def list_index_files(self) -> list[ObjectName]: ...

    def read_index_file(self, name: ObjectName) -> IndexFile: ...


class IndexStore(Protocol):
    """Where index files go."""

    def save_unpacked(self, kind: ObjectKind, plaintext: bytes, packs: Sequence[ObjectName] = ()) -> ObjectName: ...


class Index:
    """The blobs of a vault, as one session sees them. Safe for several threads."""

    def __init__(
        self,
        source: IndexSource,
        cache: Path | None = None,
        *,
        budget: int = BUDGET,
        scratch: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Read the index. `progress` gets files read and to read.

        `cache` is a folder for this vault alone, or None; a table that is not kept lies in `scratch`, if that can be,
        else where the system has its temporary files.
        """
        self._source = source
        self._progress = progress
        self._lock = threading.RLock()
        self._tables = _tables(cache, budget, scratch)
        self._view = View(self._next_table())
        self._tables_before = 0
        self._files: list[ObjectName] = []
        self._listed_in = -1  # the session that listed them
        self._loaded = False
        self._damaged: dict[ObjectName, DamagedVault | ObjectMissing] = {}
        self._left_out: set[bytes] = set()
        self._own_packs: dict[bytes, IndexedPack] = {}
        self._own = View(MemoryTable())
        self._using(lambda _: None)

    @property
    def damaged(self) -> Mapping[ObjectName, DamagedVault | ObjectMissing]:
        """The index files that cannot be read, and why: what they alone list is not found here."""
        return dict(self._damaged)

    @property
    def files(self) -> Sequence[ObjectName]:
        """The index files that count."""
        return tuple(self._files)

    def list_anew(self) -> None:
        """List the index files again before the next question: others have stored some since."""
        with self._lock:
            self._listed_in = -1

    def leave_out(self, packs: Iterable[ObjectName]) -> None:
        """Know nothing of these packs any more: they are damaged, and what lies in them alone is not found."""
        with self._lock:
            self._left_out |= set(map(_identity, packs))
            self._using(self._leave_out)

    def find(self, kind: BlobKind, blob: BlobId) -> Location | None:
        """Where a blob lies, or None. Of several places, one of this session's own packs comes first."""
        with self._lock:
            found = self._own.find(kind, blob) or self._using(lambda view: view.find(kind, blob))
        return None if found is None else _location(*found)

    def find_one_of_each(self, kind: BlobKind, blobs: Sequence[BlobId]) -> list[Location | None]:
        """As `find`, of many blobs at once: quicker if those that lie side by side in a pack come one after another."""
        with self._lock:
            found = self._using(lambda view: view.find_one_of_each(kind, blobs))
            if self._own_packs:
                found = [self._own.find(kind, blob) or other for blob, other in zip(blobs, found, strict=True)]
        return [None if place is None else _location(*place) for place in found]

    def find_all(self, kind: BlobKind, blob: BlobId) -> list[Location]:
        """Every place of a blob: each is in another pack, or twice in one."""
        return self.find_each(kind, [blob])[0]

    def find_each(self, kind: BlobKind, blobs: Sequence[BlobId]) -> list[list[Location]]:
        """As `find_all`, of many blobs at once: a backup asks for all that is new."""
        with self._lock:
            own = [self._own.find_all(kind, blob) for blob in blobs]
            kept = self._using(lambda view: [view.find_all(kind, blob) for blob in blobs])
        return [[_location(*found) for found in (*mine, *others)] for mine, others in zip(own, kept, strict=True)]

    def placed(self, kind: BlobKind, blob: BlobId) -> Placed | None:
        """The first place of a blob in the index files: always the same, as long as the session is."""
        with self._lock:
            place = self._using(lambda view: view.place(kind, blob))
            return None if place is None else Placed(self._tables_before, *place)

    def has_all(self, kind: BlobKind, blobs: Sequence[BlobId]) -> bool:
        """Whether each of the blobs is found: the quick way, as a backup asks for all that is unchanged."""
        with self._lock:
            others = [blob for blob in blobs if not self._own.find(kind, blob)] if self._own_packs else blobs
            return self._using(lambda view: view.has_all(kind, others))

    def __contains__(self, key: tuple[BlobKind, BlobId]) -> bool:
        return self.find(*key) is not None

    def packs_of(self, kind: BlobKind, blob: BlobId) -> list[ObjectName]:
        """The packs that hold a blob."""
        return list(dict.fromkeys(location.pack for location in self.find_all(kind, blob)))

    def entries_of_pack(self, pack: ObjectName) -> list[PackEntry]:
        """All that the index says lies in a pack, by offset; empty if it says nothing."""
        identity = _identity(pack)
        with self._lock:
            own = self._own_packs.get(identity)
            if own is not None:
                return own.entries
            return self._using(lambda view: view.entries(identity))

    def times_listed(self, pack: ObjectName) -> int:
        """How often index files list a pack."""
        identity = _identity(pack)
        with self._lock:
            return self._using(lambda view: view.times_listed(identity))

    def count_doubled(self) -> int:
        """How many entries are of blobs that lie in more than one place. Looks at the whole index."""
        with self._lock:
            return self._using(lambda view: view.count_doubled())

    def packs(self) -> Iterator[tuple[ObjectName, list[PackEntry]]]:
        """Every pack of the index with its entries. A pack about which index files differ comes once, merged."""
        with self._lock:
            own = list(self._own_packs.values())
        for pack in own:
            yield pack.name, pack.entries
        number = -1
        while True:
            with self._lock:
                step = self._using(lambda view, after=number: view.next_pack(after))  # type: ignore[misc]
            if step is None:
                return
            number, identity, entries = step
            if entries is not None and identity not in self._own_packs:
                yield _pack_name(identity), entries

    def add_pack(self, pack: IndexedPack) -> None:
        """Make the blobs of a pack that this session stored known, before any index file lists them."""
        with self._lock:
            self._own_packs[pack.pack] = pack
            self._own.take(pack.pack, [pack])

    def absorb(self, file: ObjectName, packs: Sequence[IndexedPack]) -> None:
        """Take over an index file that this session stored: its packs are kept where the others are."""
        with self._lock:
            self._files.append(file)
            self._using(lambda view: view.take(_identity(file), packs))
            for pack in packs:
                self._own_packs.pop(pack.pack, None)
            self._own = View(MemoryTable())
            for identity, pack in self._own_packs.items():
                self._own.take(identity, [pack])

    def close(self) -> None:
        """Let go of the cache."""
        with self._lock:
            self._view.table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _using(self, work: Callable[[View], T]) -> T:
        """Do `work` on the table; when the table breaks, on the next one, filled anew."""
        while True:
            try:
                self._refresh()
                return work(self._view)
            except BrokenTable:
                self._loaded = False
                with contextlib.suppress(BrokenTable):
                    self._view.table.close()
                self._view = View(self._next_table())
                self._tables_before += 1

    def _next_table(self) -> IndexTable:
        for open_table in self._tables:
            with contextlib.suppress(BrokenTable):
                return open_table()
        raise AssertionError("a table in memory can always be had")

    def _refresh(self) -> None:
        """List the index files if another session has begun, and fill the table if it is not."""
        while not self._loaded or self._listed_in != self._source.session_number:
            self._loaded = False
            number = self._source.session_number
            if self._listed_in != number:
                self._files = self._source.list_index_files()
                self._listed_in = number
            self._load()
            self._loaded = True

    def _load(self) -> None:
        """Read the index files that the table has not. What cannot be read is not kept there."""
        self._view = view = View(self._view.table)
        self._damaged = {}
        missing = [file for file in self._files if view.table.records_of_file(_identity(file)) is None]
        view.table.add_files(self._read(missing))
        for file in self._files:
            view.count(_identity(file))
        self._leave_out(view)

    def _leave_out(self, view: View) -> None:
        for pack in self._left_out:
            view.leave_out(pack)

    def _read(self, missing: Sequence[ObjectName]) -> Iterator[tuple[bytes, Sequence[IndexedPack]]]:
        for done, file in enumerate(missing):
            if self._progress:
                self._progress(done, len(missing))
            try:
                packs = self._source.read_index_file(file).packs
            except (DamagedVault, ObjectMissing) as error:
                self._damaged[file] = error
                continue
            yield _identity(file), packs
        if missing and self._progress:
            self._progress(len(missing), len(missing))


class IndexWriter:
    """Collects the packs that a session stored or reserved and writes index files of them. Safe for several threads.

    A reserved pack is listed in full, whatever part of it the session needs.
    """

    def __init__(self, index: Index, store: IndexStore) -> None:
        self._index = index
        self._store = store
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._packs: dict[bytes, IndexedPack] = {}
        self._listed: set[bytes] = set()

    @property
    def pending(self) -> int:
        """Packs that no index file of this writer lists yet."""
        return len(self._packs)

    def add_pack(self, pack: IndexedPack) -> None:
        """List a pack that this session stored; its blobs are found in the index from now on."""
        self._index.add_pack(pack)
        with self._lock:
            self._packs[pack.pack] = pack

    def add_reserved(self, pack: ObjectName) -> None:
        """List a pack that the session reserved, as the index has it. Raises KeyError if the index has it not."""
        identity = _identity(pack)
        with self._lock:
            if identity in self._packs or identity in self._listed:
                return
            entries = self._index.entries_of_pack(pack)
            if not entries:
                raise KeyError(pack)
            self._packs[identity] = IndexedPack.of(identity, entries)

    def flush(self) -> list[ObjectName]:
        """Store index files for what was added since the last flush, and answer their names.

        When storing fails, what was not stored is still pending.
        """
        with self._flushing:  # one at a time, while packs go on being added
            with self._lock:
                groups = split(list(self._packs.values()))
            return [self._store_group(group) for group in groups]

    def _store_group(self, group: list[IndexedPack]) -> ObjectName:
        packs = [pack.name for pack in group]
        name = self._store.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(group)), packs)
        self._index.absorb(name, group)
        with self._lock:
            for pack in group:
                del self._packs[pack.pack]
                self._listed.add(pack.pack)
        return name


def _location(pack: bytes, entry: PackEntry) -> Location:
    return Location(_pack_name(pack), entry)


def _identity(name: ObjectName) -> bytes:
    return bytes.fromhex(name.id)


@lru_cache(maxsize=4096)
def _pack_name(identity: bytes) -> ObjectName:
    return ObjectName(ObjectKind.PACK, identity.hex())


def _tables(cache: Path | None, budget: int, scratch: Path | None) -> Iterator[Callable[[], IndexTable]]:
    """The tables to try, best first. A cache that breaks is dropped and tried once more from empty."""
    if cache is not None:
        folder = cache
        yield lambda: LmdbTable(folder, budget)
        index_cache.drop(folder)
        yield lambda: LmdbTable(folder, budget)
    if scratch is not None:
        yield lambda: TemporaryTable(scratch)
    yield TemporaryTable
    while True:
        yield MemoryTable
