"""Plain lengths of data blobs: from a file of their own, or from the index where no disk has room for that."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from client.vault.blob_figures import BlobFigures
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index


class KnownLengths:
    """First filled, then asked."""

    def __init__(self, index: Index, scratch: Path | None) -> None:
        self._index = index
        self._noted: BlobFigures | None = None
        self._is_finished = False
        for folder in (scratch, None):
            with suppress(OSError):
                self._noted = BlobFigures(folder)
                break

    def add(self, entries: list[PackEntry]) -> None:
        """Note what the index says of a pack. Comes before the first `find`."""
        if self._noted is not None:
            try:
                for entry in entries:
                    if entry.kind is BlobKind.DATA:
                        self._noted.add(entry.id, entry.length_plain)
            except OSError:
                self._do_without()

    def find(self, blob: BlobId) -> int | None:
        """The length of a blob; None if no index file has it."""
        if self._noted is not None and not self._is_finished:
            try:
                self._noted.finish()
                self._is_finished = True
            except OSError:
                self._do_without()
        if self._noted is not None:
            return self._noted.find(blob)
        location = self._index.find(BlobKind.DATA, blob)
        return location and location.entry.length_plain

    def _do_without(self) -> None:
        if self._noted is not None:
            with suppress(OSError):
                self._noted.close()
            self._noted = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do_without()
