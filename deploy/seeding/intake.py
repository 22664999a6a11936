"""A restic repository's folder taken into a bucket.

Kept true: it comes in through a session, packs before index files before snapshots, and no retention is open
meanwhile, so nothing of it is condemned before it is needed; the node verifies every body by its name.
The packs that an index file lists are sealed in it: all packs of the folder come before the first one, and what is
missing among them is known to a device alone. No snapshot comes in while an index file is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.errors import DamagedVault, NameMismatch, StoreError
from client.stores.abc import ObjectInfo
from client.stores.local import LocalSession, LocalStore
from deploy.seeding.beginning import Beginning
from deploy.seeding.errors import NotARepository, Unreadable
from deploy.seeding.export import Moved
from deploy.seeding.session import BucketSession
from deploy.seeding.source import read_small, refuse_links
from domain.names import ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES, Purpose

_FRAME_BYTES = 1 << 20


def take_in(session: BucketSession, path: Path, told: Callable[[Moved], None]) -> Moved:
    """`told` hears after each object how far it is.

    Raises NotARepository, AnotherVault, QuotaExceeded, StoreFull; StoreError when a folder of the repository is absent.
    """
    path = path.expanduser().absolute()
    if not path.is_dir():
        raise NotARepository(folder=path, detail="it is no folder")
    refuse_links(path)
    with LocalStore(path).open(Purpose.READ) as source:
        return _Intake(session, path, source, told).run()


@dataclass(frozen=True, slots=True)
class _FolderFiles:
    place: Path
    source: LocalSession

    def key_names(self) -> Iterator[ObjectName]:
        return (info.name for info in self.source.list(ObjectKind.KEY))

    def read(self, name: ObjectName, most: int) -> bytes:
        found = None if name.kind.is_root_file else self.source.find(name)
        return read_small(found or self.place / name.path, name, most)


class _Intake:
    def __init__(self, session: BucketSession, path: Path, source: LocalSession, told: Callable[[Moved], None]) -> None:
        self._session = session
        self._path = path
        self._source = source
        self._told = told
        self._moved = Moved()
        self._beginning = Beginning(session, _FolderFiles(path, source), self._moved)

    def run(self) -> Moved:
        config = self._beginning.config()
        keys = self._beginning.keys()
        if not keys:
            raise NotARepository(folder=self._path, detail="it has no key file that can be read")
        seal = self._beginning.seal()
        # What a snapshot needs was there before it, also where something still writes to the folder.
        snapshots = list(self._source.list(ObjectKind.SNAPSHOT))
        indexes = list(self._source.list(ObjectKind.INDEX))
        if indexes and next(self._source.list(ObjectKind.PACK), None) is None:
            raise NotARepository(
                folder=self._path, detail="it has index files and not one pack, so part of it is missing"
            )
        for name, body in self._beginning.begin(config, keys, seal).items():
            self._take(ObjectInfo(name, len(body)), lambda body=body: iter((body,)))  # type: ignore[misc] # mypy infers no default
        for info in self._source.list(ObjectKind.PACK):
            self._put(info)
        listed = [self._put(info) for info in indexes]
        known = {info.name for info in self._session.list(ObjectKind.SNAPSHOT)}
        for info in snapshots:
            if info.name in known or (listed and all(listed)):
                self._commit(info, is_new=info.name not in known)
            else:
                self._moved.damaged[str(info.name)] = "what it needs may be listed in an index file that is left out"
        return self._moved

    def _put(self, info: ObjectInfo) -> bool:
        return self._take(info, partial(self._frames, info))

    def _take(self, info: ObjectInfo, body: Callable[[], Iterator[bytes]]) -> bool:
        """Whether the bucket has it now."""
        try:
            self._moved.count(info, moved=self._session.put(info, body))
        except (NameMismatch, Unreadable) as error:
            self._moved.damaged[str(info.name)] = str(error)
            return False
        self._told(self._moved)
        return True

    def _frames(self, info: ObjectInfo) -> Iterator[bytes]:
        for offset in range(0, info.size, _FRAME_BYTES):
            yield self._source.get(info.name, offset, min(_FRAME_BYTES, info.size - offset))

    def _commit(self, info: ObjectInfo, *, is_new: bool) -> None:
        if info.size > MAX_SNAPSHOT_BYTES:
            self._moved.damaged[str(info.name)] = f"a snapshot has at most {MAX_SNAPSHOT_BYTES} bytes"
            return
        try:
            body = self._source.get(info.name)
        except (DamagedVault, StoreError) as error:
            self._moved.damaged[str(info.name)] = str(error)
            return
        self._session.commit(info.name, body)
        self._moved.count(info, moved=is_new)
        self._told(self._moved)
