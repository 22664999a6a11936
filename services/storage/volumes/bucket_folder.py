"""What lies in a bucket's folder on a disk, whatever the catalogue says of it.

Kept true: only a regular file at the place that its name has is taken for an object; of all else its path is told.
However many files there are, one folder's names are in memory.
"""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from domain.names import CONFIG, SEAL, BadName, ObjectKind, ObjectName
from services.storage.store.rescans import FoundFile
from services.storage.volumes.folders import entries

_FOLDERS = (ObjectKind.KEY, ObjectKind.SNAPSHOT, ObjectKind.INDEX)
# Of a repository, with the folder in which devices begin files of one on a disk.
AT_TOP = frozenset((CONFIG.path, SEAL.path, *_FOLDERS, ObjectKind.PACK, "locks", "tmp"))
_PIECE = 1 << 20


def root_files(top: Path) -> list[FoundFile]:
    """`config` and the seal, where they are there. Raises OSError."""
    found = ((top / name.path, name) for name in (CONFIG, SEAL))
    return [
        FoundFile(name, _hash(path), there.st_size, _time(there))
        for path, name in found
        if (there := _look(path)) is not None
    ]


def files(top: Path) -> Iterator[FoundFile | str]:
    """All others. Raises OSError."""
    for kind in (*_FOLDERS, ObjectKind.PACK):
        yield from of_kind(top, kind)


def of_kind(top: Path, kind: ObjectKind) -> Iterator[FoundFile | str]:
    """Those in the folder of a kind, or the path below `top` of what is no object. Raises OSError.

    With packs comes what lies in `top` and is of no kind.
    """
    folder = top / kind.value
    if kind is not ObjectKind.PACK:
        yield from _in_folder(top, folder, kind)
        return
    yield from (path.name for path in sorted(entries(top)) if path.name not in AT_TOP)
    for place in sorted(entries(folder)):
        if place.is_dir():
            yield from _in_folder(top, place, kind)
        else:
            yield str(place.relative_to(top))


def removable(top: Path) -> Iterator[Path]:
    """The files of objects in the order in which all may go: what lies there names nothing that has gone."""
    for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY):
        folder = top / kind.value
        for place in entries(folder) if kind is ObjectKind.PACK else [folder]:
            yield from (path for path in entries(place) if _name(kind, path) is not None)
    yield from (top / name.path for name in (SEAL, CONFIG))


def _in_folder(top: Path, folder: Path, kind: ObjectKind) -> Iterator[FoundFile | str]:
    for path in entries(folder):
        name = _name(kind, path)
        found = _look(path) if name is not None else None
        if name is None or found is None:
            yield str(path.relative_to(top))
        else:
            yield FoundFile(name, bytes.fromhex(name.id), found.st_size, _time(found))


def _name(kind: ObjectKind, path: Path) -> ObjectName | None:
    try:
        name = ObjectName(kind, path.name)
    except BadName:
        return None
    return name if name.path.endswith(f"{path.parent.name}/{path.name}") else None


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
