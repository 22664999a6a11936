"""What lies in a bucket's folder in a store, whatever the catalogue says of it; as on a disk (../bucket_folder.py).

Kept true: only an object at the place that its name has is taken for one; of all else its path is told.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from domain.names import BadName, ObjectKind, ObjectName
from services.storage.store.rescans import FoundFile
from services.storage.volumes.bucket_folder import AT_TOP
from services.storage.volumes.remote.store import Entry, Store

_FOLDERS = (ObjectKind.KEY, ObjectKind.SNAPSHOT, ObjectKind.INDEX)


def files(store: Store, top: str) -> Iterator[FoundFile | str]:
    """All but `config` and the seal in the folder `top`, which ends with a slash. Raises Unavailable."""
    for kind in (*_FOLDERS, ObjectKind.PACK):
        yield from of_kind(store, top, kind)


def of_kind(store: Store, top: str, kind: ObjectKind) -> Iterator[FoundFile | str]:
    """Those in the folder of a kind, or the path below `top` of what is no object. Raises Unavailable.

    With packs comes what lies in `top` and is of no kind.
    """
    folder = f"{top}{kind.value}/"
    if kind is not ObjectKind.PACK:
        yield from _in_folder(store, folder, kind, top)
        return
    yield from sorted(entry.name for entry in store.list(top) if entry.name not in AT_TOP)
    for entry in sorted(entry.path for entry in store.list(folder)):
        if entry.endswith("/"):
            yield from _in_folder(store, entry, kind, top)
        else:
            yield entry.removeprefix(top)


def time_of(entry: Entry) -> datetime:
    """When it was stored; a store that does not say it has old ones."""
    return entry.modified or datetime.fromtimestamp(0, UTC)


def _in_folder(store: Store, folder: str, kind: ObjectKind, top: str) -> Iterator[FoundFile | str]:
    for entry in store.list(folder):
        try:
            name = ObjectName(kind, entry.name)
        except BadName:
            yield entry.path.removeprefix(top)
            continue
        if entry.is_folder or entry.path != f"{top}{name.path}":
            yield entry.path.removeprefix(top)
        else:
            yield FoundFile(name, bytes.fromhex(name.id), entry.size, time_of(entry))
