"""New index files, and what they replace.

Kept true: before an old index file is condemned, every pack that stays is listed, in full, by an index file that stays
or that the store has acknowledged; no index file that stays lists a pack that goes. So whatever ends a prune, index
files that are there list all that any snapshot needs. Memory is one index file's packs, and a byte a pack.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from client.errors import DamagedVault, NoRoomForIndex, StoreFull
from client.reachability.tables import ListingFile, PackTables
from client.retention.prune.choice import MANY_SMALL
from client.vault.index_files import MAX_ENTRIES, IndexedPack, IndexFile, encode_index_file
from client.vault.repository import Vault
from domain.names import ObjectKind

_SMALL_FILE = MAX_ENTRIES // 4


class IndexFiles:
    """Stores index files of bounded size as packs are added. Raises NoRoomForIndex, StoreError."""

    def __init__(self, vault: Vault, ensure_locked: Callable[[], None]) -> None:
        self._vault = vault
        self._ensure_locked = ensure_locked
        self._packs: list[IndexedPack] = []
        self._entries = 0
        self.files = 0
        self.bytes = 0

    def add(self, pack: IndexedPack) -> None:
        """List a pack that the store has."""
        if self._packs and self._entries + len(pack) > MAX_ENTRIES:
            self.flush()
        self._packs.append(pack)
        self._entries += len(pack)

    def flush(self) -> None:
        """Store what was added and is not yet listed."""
        if self._packs:
            name, body = self._vault.seal_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(self._packs)))
            self._ensure_locked()
            try:
                self._vault.session.put(name, body, [pack.name for pack in self._packs])
            except StoreFull as full:
                raise NoRoomForIndex(**full.fields, size=len(body)) from None
            self.files += 1
            self.bytes += len(body)
            self._packs, self._entries = [], 0


class Replacement:
    """Which of some index files go, when the packs of `gone` rows go, and which rows new ones must list for that.

    Those go that say something wrong; those that list what a larger one lists; and small ones, where many list what no
    other does. So what was written for files that the store then kept is found, and is not written again.
    """

    def __init__(self, tables: PackTables, gone: bytearray, files: Sequence[ListingFile]) -> None:
        self._tables = tables
        self._gone = gone
        self._listed = bytearray(len(tables))  # by files that stay, and then by new ones
        stays, goes = self._part(files)
        small = [file for file in stays if file.entries < _SMALL_FILE]
        if len(small) + sum(file.entries < _SMALL_FILE and self._is_missed(file) for file in goes) >= MANY_SMALL:
            for file in small:
                self._note(file, listed=False)
            goes += small
        self.files = goes

    def _part(self, files: Sequence[ListingFile]) -> tuple[list[ListingFile], list[ListingFile]]:
        """Those that could stay, which are noted, and the others."""
        stays, goes = [], []
        for file in sorted(files, key=lambda file: file.entries, reverse=True):
            if self._is_wrong(file) or any(self._listed[row] for row in file.rows):
                goes.append(file)
            else:
                stays.append(file)
                self._note(file, listed=True)
        return stays, goes

    def _is_wrong(self, file: ListingFile) -> bool:
        return any(self._gone[row] for row in file.rows) or not self._tables.is_exact(file)

    def _is_missed(self, file: ListingFile) -> bool:
        """Whether new index files must list something for it."""
        return any(not self._gone[row] and not self._listed[row] for row in file.rows)

    def _note(self, file: ListingFile, *, listed: bool) -> None:
        for row in file.rows:
            self._listed[row] = listed

    def write(self, index: IndexFiles) -> None:
        """List what is to stay and is listed by no file that stays. Raises StoreError."""
        for row in self._rest():
            index.add(self._tables.indexed(row))
            self._listed[row] = 1
        index.flush()

    def _rest(self) -> Iterator[int]:
        for file in self.files:
            yield from (row for row in file.rows if not self._gone[row] and not self._listed[row])

    def ensure_listed(self, rows: Iterable[int]) -> None:
        """Raise DamagedVault if a row is not listed: nothing may be condemned then."""
        for row in rows:
            if not self._listed[row]:
                raise DamagedVault(
                    name=self._tables.pack(row), detail="no new index file lists it: nothing was removed"
                )
