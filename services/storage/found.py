"""What lies in the folders of buckets, whatever the catalogue says of it.

Kept true: only a regular file at the place that its name has is taken for an object; all else is counted and left
alone. However many files there are, one folder's names are in memory.
Everything here blocks, and runs in the node's disk threads.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from uuid import UUID

from domain.names import CONFIG, SEAL, ObjectKind
from services.storage.disks import Disks
from services.storage.places import entries, name_at
from services.storage.store.rescans import FoundFile

_AT_ONCE = 1000
_FOLDERS = (ObjectKind.KEY, ObjectKind.SNAPSHOT, ObjectKind.INDEX)
_PIECE = 1 << 20


@dataclass(slots=True)
class Pages:
    """The files of one bucket on the disks of a node, a page at a time; `foreign` counts what is none of them."""

    disks: Disks
    bucket: UUID
    foreign: int = 0
    _files: Iterator[FoundFile] = field(init=False)

    def __post_init__(self) -> None:
        self._files = self._all()

    def next(self) -> list[FoundFile]:
        """Up to 1,000 of them, the root files first; none at the end. Raises OSError."""
        return list(islice(self._files, _AT_ONCE))

    def _all(self) -> Iterator[FoundFile]:
        tops = [disk.buckets / str(self.bucket) for disk in self.disks.holding(self.bucket)]
        for top in tops:
            for name in (CONFIG, SEAL):
                if (found := _look(top / name.path)) is not None:
                    yield FoundFile(name, _hash(top / name.path), found.st_size, _time(found))
        for top in tops:
            for kind in _FOLDERS:
                yield from self._in_folder(top / kind.value, kind)
            for folder in sorted(entries(top / ObjectKind.PACK.value)):
                yield from self._in_folder(folder, ObjectKind.PACK)

    def _in_folder(self, folder: Path, kind: ObjectKind) -> Iterator[FoundFile]:
        for path in entries(folder):
            name = name_at(kind, path)
            found = _look(path) if name is not None else None
            if name is None or found is None:
                self.foreign += 1
                continue
            yield FoundFile(name, bytes.fromhex(name.id), found.st_size, _time(found))


def _look(path: Path) -> os.stat_result | None:
    """None if there is no regular file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _time(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _hash(path: Path) -> bytes:
    hashed = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return hashed.digest()
