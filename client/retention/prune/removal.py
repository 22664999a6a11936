"""Condemning what was replaced and what is not needed.

Kept true: index files go before packs; a pack that is listed by an index file which the store keeps is not condemned.
"""

from collections.abc import Callable, Container, Iterator
from itertools import islice

from client.retention.prune.findings import Progress
from client.retention.prune.report import PruneReport
from client.retention.prune.tables import ListingFile, PackTables
from client.stores.abc import StoreSession
from domain.names import ObjectKind, ObjectName

_AT_ONCE = 1000  # objects in one call


class Removal:
    """Condemns objects in one session, and counts them in a report. Raises StoreError."""

    def __init__(
        self, session: StoreSession, report: PruneReport, ensure_locked: Callable[[], None], progress: Progress
    ) -> None:
        self._session = session
        self._report = report
        self._ensure_locked = ensure_locked
        self._progress = progress

    def condemn_index_files(
        self, tables: PackTables, files: list[ListingFile], spare: Container[ObjectName]
    ) -> bytearray:
        """Answers the rows, a 1 each, of which an index file that stays lists the pack.

        That those which are `spare` stay, as while a backup runs that has put them, is no refusal to tell of.
        """
        by_name = {file.name: file for file in files}
        kept = bytearray(len(tables))
        objects = ((file.name, file.size) for file in files)
        for name, is_gone in self._condemn(tables, "old index files", objects, len(files), spare):
            if is_gone:
                self._report.replaced_index_files += 1
            else:
                for row in by_name[name].rows:
                    kept[row] = 1
        return kept

    def condemn_packs(self, tables: PackTables, gone: bytearray, kept: bytearray) -> None:
        """Condemn every pack that the session lists and that no index file lists any more."""
        total = sum(1 for _ in unneeded_packs(tables, gone, kept))
        for name, is_gone in self._condemn(tables, "old packs", unneeded_packs(tables, gone, kept), total):
            if is_gone:
                self._report.removed_packs += 1
                self._report.unlisted_packs += not tables.lists(name)

    def _condemn(
        self,
        tables: PackTables,
        what: str,
        objects: Iterator[tuple[ObjectName, int]],
        total: int,
        spare: Container[ObjectName] = (),
    ) -> Iterator[tuple[ObjectName, bool]]:
        """Whether each of the objects, given with their sizes, is gone."""
        done = 0
        while batch := list(islice(objects, _AT_ONCE)):
            self._progress(what, done, total)
            self._ensure_locked()
            refused = self._session.condemn([name for name, _ in batch])
            for name, size in batch:
                if name not in refused:
                    self._report.freed_bytes += size
                elif name.kind is ObjectKind.PACK and not tables.lists(name):
                    self._report.unlisted_refused += 1
                elif name not in spare:
                    self._report.refused.add(name, refused[name])
                yield name, name not in refused
            done += len(batch)
        if total:
            self._progress(what, total, total)


def unneeded_packs(tables: PackTables, gone: bytearray, kept: bytearray) -> Iterator[tuple[ObjectName, int]]:
    """The packs that are listed, by name, but those that stay: their row is not gone, or is among the `kept`."""
    for position in range(len(tables.sizes)):
        row = tables.row_at(position)
        if row is None or (gone[row] and not kept[row]):
            yield tables.sizes.name(position), tables.sizes.size(position)
