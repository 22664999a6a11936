"""Condemning what was replaced and what is not needed.

Kept true: index files go before packs; a pack is condemned only when every index file that listed it is.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from client.reachability.findings import Progress
from client.reachability.tables import ListingFile, PackTables
from client.retention.prune.report import PruneReport
from client.stores.abc import StoreSession
from domain.names import ObjectKind, ObjectName

_AT_ONCE = 1000  # objects in one call


class Removal:
    """Condemns objects in one session, each once, and counts them in a report. Raises StoreError."""

    def __init__(
        self,
        session: StoreSession,
        tables: PackTables,
        report: PruneReport,
        ensure_locked: Callable[[], None],
        progress: Progress,
    ) -> None:
        self._session = session
        self._tables = tables
        self._report = report
        self._ensure_locked = ensure_locked
        self._progress = progress
        self._listing = array("I", [0]) * len(tables)  # by row: index files that list it and are there
        for file in tables.files:
            for row in {*file.rows}:
                self._listing[row] += 1
        self._asked = bytearray(len(tables.sizes))  # by position in the listing

    def condemn(self, files: list[ListingFile], gone: bytearray) -> None:
        """Condemn old index files; then the packs of rows that are `gone`, and those that no index file ever listed."""
        rows = {file.name: file.rows for file in files}
        listed = ((file.name, file.size) for file in files)
        for name, is_gone in self._condemn("old index files", listed, len(files)):
            if is_gone:
                self._report.replaced_index_files += 1
                for row in {*rows[name]}:
                    self._listing[row] -= 1
        positions = array("I", self._free(gone))
        for position in positions:
            self._asked[position] = 1
        sizes = self._tables.sizes
        packs = ((sizes.name(position), sizes.size(position)) for position in positions)
        for name, is_gone in self._condemn("old packs", packs, len(positions)):
            if is_gone:
                self._report.removed_packs += 1
                self._report.unlisted_packs += not self._tables.lists(name)

    def _free(self, gone: bytearray) -> Iterator[int]:
        for position in unneeded_packs(self._tables, gone):
            row = self._tables.row_at(position)
            if not self._asked[position] and (row is None or not self._listing[row]):
                yield position

    def _condemn(
        self, what: str, objects: Iterable[tuple[ObjectName, int]], total: int
    ) -> Iterator[tuple[ObjectName, bool]]:
        """Whether each of the objects, given with their sizes, is gone."""
        done, rest = 0, iter(objects)
        while batch := list(islice(rest, _AT_ONCE)):
            self._progress(what, done, total)
            self._ensure_locked()
            refused = self._session.condemn([name for name, _ in batch])
            for name, size in batch:
                refusal = refused.get(name)
                if refusal is None:
                    self._report.freed_bytes += size
                elif not refusal.in_use:
                    self._report.refused.add(name, refusal.reason)
                elif name.kind is ObjectKind.PACK:
                    self._report.packs_in_use += 1
                else:
                    self._report.index_files_in_use += 1
                yield name, refusal is None
            done += len(batch)
        if total:
            self._progress(what, total, total)


def unneeded_packs(tables: PackTables, gone: bytearray) -> Iterator[int]:
    """The positions in the listing of packs whose row is gone, and of those that no index file lists."""
    for position in range(len(tables.sizes)):
        row = tables.row_at(position)
        if row is None or gone[row]:
            yield position
