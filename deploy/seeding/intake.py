"""A restic repository's folder taken into a bucket.

Kept true: it comes in through a session, packs before index files before snapshots, and no retention is open
meanwhile, so nothing of it is condemned before it is needed; the node verifies every body by its name. A bucket takes
one vault alone: key and config come first, in one step, and a bucket with another config is refused.
The packs that an index file lists are sealed in it: all packs of the folder come before the first one, and what is
missing among them is known to a device alone. No snapshot comes in while an index file is left out.
"""

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from client.account.vaults import SealFile
from client.errors import BrokenSeal, DamagedVault, NameMismatch, ObjectMissing, OortError, StoreError
from client.stores.abc import ObjectInfo
from client.stores.local import LocalSession, LocalStore
from client.vault.blobs import SEAL_OVERHEAD
from client.vault.keys import read_key_file
from deploy.seeding.errors import AnotherVault, NotARepository, Unreadable
from deploy.seeding.export import Moved
from deploy.seeding.session import BucketSession
from deploy.seeding.source import read_small, refuse_links
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES, Purpose

_FRAME_BYTES = 1 << 20
_LARGEST_CONFIG = 1 << 20
_LARGEST_KEY = _LARGEST_SEAL = 64 << 10


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


class _Intake:
    def __init__(self, session: BucketSession, path: Path, source: LocalSession, told: Callable[[Moved], None]) -> None:
        self._session = session
        self._path = path
        self._source = source
        self._told = told
        self._moved = Moved()

    def run(self) -> Moved:
        config = self._config()
        keys = self._keys()
        seal = self._seal()
        # What a snapshot needs was there before it, also where something still writes to the folder.
        snapshots = list(self._source.list(ObjectKind.SNAPSHOT))
        indexes = list(self._source.list(ObjectKind.INDEX))
        if indexes and next(self._source.list(ObjectKind.PACK), None) is None:
            raise NotARepository(
                folder=self._path, detail="it has index files and not one pack, so part of it is missing"
            )
        self._begin(config, keys, seal)
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

    def _config(self) -> bytes:
        try:
            config = read_small(self._path / CONFIG.path, CONFIG, _LARGEST_CONFIG)
        except ObjectMissing:
            raise NotARepository(folder=self._path, detail="it has no file config") from None
        except Unreadable as error:
            raise NotARepository(folder=self._path, detail=f"its config cannot be taken: {error}") from None
        if len(config) <= SEAL_OVERHEAD:
            raise NotARepository(folder=self._path, detail="its config is cut short")
        return config

    def _keys(self) -> dict[ObjectName, bytes]:
        """Those that can be read. Raises NotARepository if there is none: nothing could open the vault."""
        found: dict[ObjectName, bytes] = {}
        for info in self._source.list(ObjectKind.KEY):
            try:
                body = self._key(info.name)
                read_key_file(body, str(info.name))
            except OortError as error:
                self._moved.damaged[str(info.name)] = str(error)
            else:
                found[info.name] = body
        if not found:
            raise NotARepository(folder=self._path, detail="it has no key file that can be read")
        return found

    def _key(self, name: ObjectName) -> bytes:
        body = read_small(self._source.find(name) or self._path / name.path, name, _LARGEST_KEY)
        if sha256(body).hexdigest() != name.id:
            raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
        return body

    def _begin(self, config: bytes, keys: dict[ObjectName, bytes], seal: bytes) -> None:
        """Make the bucket this vault, if it is none yet."""
        first = next(iter(keys))
        if self._has_no_config() and self._session.initialise(first, keys[first], config, seal):
            self._moved.count(ObjectInfo(first, len(keys.pop(first))), moved=True)
        if self._session.read(CONFIG) != config:
            raise AnotherVault(bucket=self._session.bucket, folder=self._path)
        for name, body in keys.items():
            self._take(ObjectInfo(name, len(body)), lambda body=body: iter((body,)))  # type: ignore[misc] # mypy infers no default

    def _has_no_config(self) -> bool:
        """Or one that is lost, which the same may take the place of."""
        try:
            self._session.read(CONFIG)
        except (ObjectMissing, DamagedVault):
            return True
        return False

    def _seal(self) -> bytes:
        """Empty where none is of the bucket's account: a device makes one where there is none, and replaces none."""
        try:
            body = read_small(self._path / SEAL.path, SEAL, _LARGEST_SEAL)
            seal = SealFile.from_bytes(body)
        except ObjectMissing:
            return b""
        except Unreadable as error:
            self._moved.damaged[str(SEAL)] = str(error)
            return b""
        except BrokenSeal:
            self._moved.damaged[str(SEAL)] = "it is no seal of a vault's key"
            return b""
        if str(seal.user) != self._session.user:
            self._moved.damaged[str(SEAL)] = "it is of another account: a device's first backup makes the one needed"
            return b""
        return body

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
