"""A number for each of many blobs, noted in a temporary file in 256 parts by the first byte of their ids.

Kept true: memory does not grow with the number of blobs; 6 MB wait, and one part is looked at in one go. Only the first
eight bytes of an id are kept, as a number: whoever must know that two blobs are one compares their whole ids.
"""

import tempfile
from array import array
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from client.vault.blobs import BlobId

PARTS = 256
PREFIX_BYTES = 8
PREFIXES: Final = "Q"  # array types of 8 and 4 bytes
FIGURES: Final = "I"
_CHUNK = 2048  # entries of a part that are written at once


class BlobParts:
    """First filled, then asked part by part. Raises OSError."""

    def __init__(self, scratch: Path | None) -> None:
        """The file lies in `scratch`, or where the system has its temporary files, and has no name."""
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed in `close`
        self._prefixes = [array(PREFIXES) for _ in range(PARTS)]
        self._figures = [array(FIGURES) for _ in range(PARTS)]
        self._chunks: list[list[int]] = [[] for _ in range(PARTS)]  # where in the file each begins
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, prefix: int, figure: int) -> None:
        """Note a blob by its prefix (see `prefix_of`), once or several times; a figure is below 2^32."""
        part = prefix >> 56
        prefixes = self._prefixes[part]
        prefixes.append(prefix)
        self._figures[part].append(figure)
        self._count += 1
        if len(prefixes) == _CHUNK:
            self._chunks[part].append(self._file.tell())
            prefixes.tofile(self._file)
            self._figures[part].tofile(self._file)
            self._prefixes[part], self._figures[part] = array(PREFIXES), array(FIGURES)

    def take(self, part: int) -> tuple["array[int]", "array[int]"]:
        """Prefixes and figures of one part, which is asked for once."""
        prefixes, figures = array(PREFIXES), array(FIGURES)
        for at in self._chunks[part]:
            self._file.seek(at)
            prefixes.fromfile(self._file, _CHUNK)
            figures.fromfile(self._file, _CHUNK)
        prefixes.extend(self._prefixes[part])
        figures.extend(self._figures[part])
        self._prefixes[part], self._figures[part] = array(PREFIXES), array(FIGURES)
        return prefixes, figures

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prefix_of(blob: BlobId) -> int:
    """The first eight bytes of an id as a number; their order is that of the ids."""
    return int.from_bytes(blob[:PREFIX_BYTES])
