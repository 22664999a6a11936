"""A number for each of many blobs, 12 bytes each in a temporary file, where it is found fast.

Kept true: memory does not grow with the number of blobs, and the file stays so small that it is found in the page cache
even where the index, five times as large and asked at random, is not: 120 MB for ten million blobs.
Only the first eight bytes of an id are kept: a blob that was not noted is taken for one that was with a probability
of one in 10^12 in such a vault.
"""

import mmap
import tempfile
from array import array
from bisect import bisect_left
from pathlib import Path
from types import TracebackType
from typing import Self

from client.vault.blob_parts import FIGURES, PARTS, PREFIXES, BlobParts, prefix_of
from client.vault.blobs import BlobId

_ENTRY_BYTES = 12


class BlobFigures:
    """First filled, then finished, then asked. Raises OSError."""

    def __init__(self, scratch: Path | None) -> None:
        """The file lies in `scratch`, or where the system has its temporary files, and has no name."""
        self._parts = BlobParts(scratch)
        self._sorted = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed in `close`
        self._starts = [0]  # of the parts, in entries
        self._map: mmap.mmap | None = None
        self._views: tuple[memoryview, memoryview] | None = None

    def add(self, blob: BlobId, figure: int) -> None:
        """Note a blob, once or several times; a figure is below 2^32."""
        self._parts.add(prefix_of(blob), figure)

    def add_prefix(self, prefix: int, figure: int) -> None:
        """As `add`, of a blob of which the first eight bytes are at hand as a number."""
        self._parts.add(prefix, figure)

    def finish(self) -> None:
        """All blobs are noted."""
        count = len(self._parts)
        if not count:
            return
        self._sorted.truncate(count * _ENTRY_BYTES)
        done = 0
        for part in range(PARTS):
            entries = sorted(zip(*self._parts.take(part), strict=True))
            for code, at, values in (
                (PREFIXES, done * 8, (prefix for prefix, _ in entries)),
                (FIGURES, count * 8 + done * 4, (figure for _, figure in entries)),
            ):
                self._sorted.seek(at)
                array(code, values).tofile(self._sorted)
            done += len(entries)
            self._starts.append(done)
        self._sorted.flush()
        self._parts.close()
        self._map = mmap.mmap(self._sorted.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(self._map)
        self._views = view[: count * 8].cast(PREFIXES), view[count * 8 :].cast(FIGURES)

    def find(self, blob: BlobId) -> int | None:
        """The figure of a blob, the least if it was noted several times; None if it was not noted."""
        if self._views is None:
            return None
        prefixes, figures = self._views
        prefix = prefix_of(blob)
        end = self._starts[blob[0] + 1]
        at = bisect_left(prefixes, prefix, self._starts[blob[0]], end)
        return figures[at] if at < end and prefixes[at] == prefix else None

    def find_all(self, blob: BlobId) -> list[int]:
        """Every figure of a blob, ascending; also those of another with the same first eight bytes."""
        if self._views is None:
            return []
        prefixes, figures = self._views
        prefix = prefix_of(blob)
        end = self._starts[blob[0] + 1]
        first = after = bisect_left(prefixes, prefix, self._starts[blob[0]], end)
        while after < end and prefixes[after] == prefix:
            after += 1
        return figures[first:after].tolist()

    def close(self) -> None:
        """Let go of the files."""
        if self._views is not None:
            for view in self._views:
                view.release()
            self._views = None
        if self._map is not None:
            self._map.close()
        self._parts.close()
        self._sorted.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
