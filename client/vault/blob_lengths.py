"""Plain lengths of all data blobs of a vault, 12 bytes each in a temporary file, where they are found fast.

Kept true: memory does not grow with the number of blobs, and the file stays so small that it is found in the page cache
even where the index, five times as large and asked at random, is not: 120 MB for ten million blobs.
Only the first eight bytes of an id are kept: a blob that is in no index file is taken for one that is with a
probability of one in 10^12 in such a vault.
"""

import mmap
import tempfile
from array import array
from bisect import bisect_left
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from client.vault.blobs import BlobId

_PARTS = 256  # by the first byte
_CHUNK = 2048  # entries of a part that are written at once: 6 MB wait in all
_PREFIX = 8
_PREFIXES: Final = "Q"  # array types of 8 and 4 bytes
_LENGTHS: Final = "I"
_ENTRY_BYTES = 12


class BlobLengths:
    """First filled, then finished, then asked. Raises OSError."""

    def __init__(self, scratch: Path | None) -> None:
        """The file lies in `scratch`, or where the system has its temporary files, and has no name."""
        self._collected = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed in `close`
        self._sorted = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
        self._prefixes = [array(_PREFIXES) for _ in range(_PARTS)]
        self._lengths = [array(_LENGTHS) for _ in range(_PARTS)]
        self._chunks: list[list[int]] = [[] for _ in range(_PARTS)]  # where in the file each begins
        self._count = 0
        self._starts = [0]  # of the parts, in entries
        self._map: mmap.mmap | None = None
        self._views: tuple[memoryview, memoryview] | None = None

    def add(self, blob: BlobId, length: int) -> None:
        """Note a blob, once or several times."""
        part = blob[0]
        prefixes = self._prefixes[part]
        prefixes.append(int.from_bytes(blob[:_PREFIX]))
        self._lengths[part].append(length)
        self._count += 1
        if len(prefixes) == _CHUNK:
            self._chunks[part].append(self._collected.tell())
            prefixes.tofile(self._collected)
            self._lengths[part].tofile(self._collected)
            self._prefixes[part], self._lengths[part] = array(_PREFIXES), array(_LENGTHS)

    def finish(self) -> None:
        """All blobs are noted."""
        if not self._count:
            return
        self._sorted.truncate(self._count * _ENTRY_BYTES)
        done = 0
        for part in range(_PARTS):
            entries = self._sorted_part(part)
            for code, at, values in (
                (_PREFIXES, done * 8, (prefix for prefix, _ in entries)),
                (_LENGTHS, self._count * 8 + done * 4, (length for _, length in entries)),
            ):
                self._sorted.seek(at)
                array(code, values).tofile(self._sorted)
            done += len(entries)
            self._starts.append(done)
        self._sorted.flush()
        self._collected.close()
        self._map = mmap.mmap(self._sorted.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(self._map)
        self._views = view[: self._count * 8].cast(_PREFIXES), view[self._count * 8 :].cast(_LENGTHS)

    def _sorted_part(self, part: int) -> list[tuple[int, int]]:
        prefixes, lengths = self._prefixes[part], self._lengths[part]
        for at in self._chunks[part]:
            self._collected.seek(at)
            prefixes.fromfile(self._collected, _CHUNK)
            lengths.fromfile(self._collected, _CHUNK)
        self._prefixes[part], self._lengths[part] = array(_PREFIXES), array(_LENGTHS)
        return sorted(zip(prefixes, lengths, strict=True))

    def find(self, blob: BlobId) -> int | None:
        """The plain length of a blob; None if it was not noted."""
        if self._views is None:
            return None
        prefixes, lengths = self._views
        prefix = int.from_bytes(blob[:_PREFIX])
        end = self._starts[blob[0] + 1]
        at = bisect_left(prefixes, prefix, self._starts[blob[0]], end)
        return lengths[at] if at < end and prefixes[at] == prefix else None

    def close(self) -> None:
        """Let go of the file."""
        if self._views is not None:
            for view in self._views:
                view.release()
            self._views = None
        if self._map is not None:
            self._map.close()
        self._collected.close()
        self._sorted.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
