"""The data blobs that trees name, in a temporary file in 256 parts by the first byte of their ids.

Kept true: memory does not grow with their number; of each id the first eight bytes are kept, so that a blob may be
taken for wanted that is not, but none for unwanted. The file has 8 bytes for each time that a tree names a blob.
"""

import sys
import tempfile
from array import array
from bisect import bisect_left
from pathlib import Path
from types import TracebackType
from typing import Self

from client.vault.blob_parts import PARTS, PREFIXES
from client.vault.blobs import ID_BYTES

_WAITING = 1 << 17
_WORDS = ID_BYTES // 8  # of which the first is kept


class WantedBlobs:
    """First filled, then asked part by part. Raises OSError."""

    def __init__(self, scratch: Path | None) -> None:
        """The file lies in `scratch`, or where the system has its temporary files, and has no name."""
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed in `close`
        self._waiting = array(PREFIXES)
        self._segments: list[array[int]] = [array("Q") for _ in range(PARTS)]  # where each begins, and how many

    def add(self, ids: bytes) -> None:
        """Note the blobs of which these are the ids, one after another."""
        words = array(PREFIXES)
        words.frombytes(ids)
        self._waiting.extend(words[::_WORDS])
        if len(self._waiting) >= _WAITING:
            self._write()

    def _write(self) -> None:
        if sys.byteorder == "little":
            self._waiting.byteswap()
        ordered = array(PREFIXES, sorted(set(self._waiting)))
        self._waiting = array(PREFIXES)
        at = self._file.seek(0, 2)
        ordered.tofile(self._file)
        first = 0
        for part, segments in enumerate(self._segments):
            end = bisect_left(ordered, part + 1 << 56, first) if part + 1 < PARTS else len(ordered)
            if end > first:
                segments.extend((at + first * ordered.itemsize, end - first))
            first = end

    def take(self, part: int) -> set[int]:
        """The prefixes of one part. When the first is asked for, all blobs are noted."""
        if self._waiting:
            self._write()
        found: set[int] = set()
        segments = self._segments[part]
        for at, count in zip(segments[::2], segments[1::2], strict=True):
            prefixes = array(PREFIXES)
            self._file.seek(at)
            prefixes.fromfile(self._file, count)
            found.update(prefixes)
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
