"""A vault in a folder of this machine, laid out as restic's local repositories are.

Kept true: an object appears under its name only when it is whole, synced and has the SHA-256 that its name says;
what fails on the way leaves nothing under that name. Sessions are not kept apart here: restic's lock files are.
Repositories that restic made are taken as they are, packs in `data/xx/` or, as in its old S3 layout, in `data/`.
"""

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from client.disk import sync_folder
from client.errors import (
    DamagedVault,
    NameMismatch,
    ObjectMissing,
    ParentGone,
    SealChanged,
    SessionOver,
    StoreError,
    StoreFull,
    TruncatedObject,
)
from client.stores.abc import Buffer, ObjectInfo, Refusal
from client.stores.alone import alone
from client.stores.local_files import FOLDER_MODE, ensure_folder, is_file, read, scan, subfolders, write_synced
from client.stores.reserve import FULL, RESERVE, give_way, keep_reserve
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

_TEMPORARY = "tmp"
_ABANDONED_SECONDS = 24 * 3600
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS}
_FOLDERS = tuple(kind.value for kind in ObjectKind if not kind.is_root_file)
_DECISIVE = {ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK}  # by what these lists lack, packs are removed
_NEEDED_TO_REMOVE = {ObjectKind.LOCK, ObjectKind.INDEX}
_INCOMPLETE = (
    "the vault has no folder '{}': mount its disk, or copy it too; "
    "where it is lost for good, make an empty one and run `repair`"
)
# restic's "s3legacy" layout, which it also writes locally when asked to
_LEGACY_FOLDERS = {ObjectKind.KEY: "key", ObjectKind.SNAPSHOT: "snapshot", ObjectKind.LOCK: "lock"}


class LocalStore:
    """A vault in the folder `path`, which need not exist before its first use."""

    needs_locks = True

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def place(self) -> str:
        return str(self.path)

    def allows(self, purpose: Purpose) -> bool:  # noqa: ARG002 - whoever may write in a folder may do all
        return True

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "LocalSession":
        """Open a session. Raises ParentGone when the parent snapshot is no more, StoreError if `path` is no folder."""
        with self.told():
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(place=self.place, detail="it is a file, not a folder: choose another path")
            if purpose is not Purpose.READ:
                sweep(self)
            if purpose is Purpose.BACKUP:
                keep_reserve(self.path / _TEMPORARY)
        session = LocalSession(self, purpose)
        if parent is not None and not session.exists(parent):
            raise ParentGone(parent=parent, place=self.place)
        return session

    def close(self) -> None:
        """Nothing is kept open."""

    @contextlib.contextmanager
    def told(self, name: ObjectName | None = None) -> Iterator[None]:
        """Turn the system's errors into ours."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in FULL:
                raise StoreFull(place=self.place, detail=reason) from None
            if isinstance(error, FileNotFoundError) and name is not None:
                raise ObjectMissing(name=name, place=self.place) from None
            raise StoreError(place=self.place, detail=f"{reason}{f' ({name})' if name else ''}") from None


class LocalSession:
    """One session on a folder. Methods may be called from several threads."""

    lost: frozenset[ObjectName] = frozenset()  # nobody looks for damage before it is read
    has_more_lost = False

    def __init__(self, store: LocalStore, purpose: Purpose) -> None:
        self._store = store
        self._purpose = purpose
        self._over = threading.Event()
        self._durable: set[str] = set()  # folders in data/ whose names there are on the disk
        self._folders = {kind: self._folder_of(kind) for kind in ObjectKind if not kind.is_root_file}

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        """First use: key, seal and last of all `config`, which alone makes the folder a vault."""
        self._check()
        with self._store.told():
            self._make_folders()
            with alone(self._store.path):
                if self._path(CONFIG).exists():
                    return False
                self._write(key, key_body)
                if seal:
                    self._write(SEAL, seal)
                try:
                    created = self._write(CONFIG, config, exclusive=True)
                except BaseException:
                    self._path(key).unlink(missing_ok=True)
                    raise
                if not created:
                    self._path(key).unlink(missing_ok=True)
                return created

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:  # noqa: ARG002 - restic's locks keep the packs here
        """Store an object durably; one that lies there cut short is replaced."""
        self._check()
        if name.kind.is_root_file or sha256(body).hexdigest() != name.id:
            raise NameMismatch(name=name, place=self._store.place)
        with self._store.told():
            existing = self.find(name)
            if existing is not None and existing.stat().st_size == len(body):
                return False
            try:
                self._write(name, body)
            except OSError as error:
                is_needed = self._purpose is Purpose.RETENTION and name.kind in _NEEDED_TO_REMOVE
                if error.errno not in FULL or not is_needed or not give_way(self._store.path / _TEMPORARY):
                    raise
                self._write(name, body)
            return True

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        self._check()
        with self._store.told(name):
            path = self.find(name)
            if path is None:
                raise ObjectMissing(name=name, place=self._store.place)
            with path.open("rb", buffering=0) as file:
                body = read(file.fileno(), offset, length)
        if length is not None and len(body) < length:
            raise TruncatedObject(name=name, detail=f"{len(body)} of {length} bytes from {offset} are there")
        if length is None and not offset and name.id and sha256(body).hexdigest() != name.id:
            raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
        return body

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        """In the order of their names. Raises StoreError where a folder is missing, which is not the same as empty."""
        self._check()
        with self._store.told():
            self._ensure_complete(kind)
            if kind.is_root_file:
                path = self._path(ObjectName(kind))
                found = [ObjectInfo(ObjectName(kind), path.stat().st_size)] if path.is_file() else []
            elif kind is ObjectKind.PACK:
                return self._list_packs()
            else:
                found = sorted(scan(self._folders[kind], kind), key=lambda info: info.name)
        return iter(found)

    def _ensure_complete(self, kind: ObjectKind) -> None:
        """A vault without such a folder is not all there: what lies in it must not be taken for gone."""
        folder = self._folders.get(kind)
        is_vault = self._path(CONFIG).exists()  # looked at first: the folders are made before it
        if is_vault and folder is not None and kind in _DECISIVE and not folder.is_dir():
            raise StoreError(place=self._store.place, detail=_INCOMPLETE.format(folder.name))

    def _list_packs(self) -> Iterator[ObjectInfo]:
        """By sub-folder, so that memory does not grow with the vault; packs of the old layout come in their place."""
        folder = self._folders[ObjectKind.PACK]
        flat = sorted(scan(folder, ObjectKind.PACK), key=lambda info: info.name, reverse=True)
        for number in range(256):
            prefix = f"{number:02x}"
            self._check()
            with self._store.told():
                found = {info.name: info for info in scan(folder / prefix, ObjectKind.PACK)}
            while flat and flat[-1].name.id[:2] == prefix:
                info = flat.pop()
                found.setdefault(info.name, info)
            yield from (found[name] for name in sorted(found) if name.id[:2] == prefix)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """The packs that are gone. The vault's lock file keeps the others."""
        self._check()
        return frozenset(pack for pack in packs if not self.exists(pack))

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self.put(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self._check()
        with self._store.told(name):
            path = self.find(name)
            if path is None:
                raise ObjectMissing(name=name, place=self._store.place)
            path.unlink()
            sync_folder(path.parent)

    def mark(self) -> str:
        """Nothing to draw: the exclusive lock keeps every other session away."""
        self._check()
        return ""

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        """Remove at once, each kind durably before the next: an index file is never there without its packs."""
        self._check()
        for _, alike in groupby(names, lambda name: name.kind):
            folders = set()
            for name in alike:
                with self._store.told(name):
                    path = self.find(name)
                    if path is not None:
                        path.unlink()
                        folders.add(path.parent)
            with self._store.told():
                for folder in folders:
                    sync_folder(folder)
        return {}

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        """Looks, then writes: restic's exclusive lock, which the caller holds, keeps every other session away."""
        self._check()
        present = self.get(SEAL) if self.exists(SEAL) else None
        if present not in (replaced, bytes(body)):
            raise SealChanged(place=self._store.place)
        with self._store.told():
            self._write(SEAL, body)

    def exists(self, name: ObjectName) -> bool:
        with self._store.told():
            return self.find(name) is not None

    def find(self, name: ObjectName) -> Path | None:
        """Where an object lies, or None."""
        path = self._path(name)
        if is_file(path):
            return path
        flat = self._folders[ObjectKind.PACK] / name.id
        return flat if name.kind is ObjectKind.PACK and is_file(flat) else None

    def close(self) -> None:
        self._over.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._over.is_set():
            raise SessionOver(place=self._store.place)

    def _folder_of(self, kind: ObjectKind) -> Path:
        folder = self._store.path / kind.value
        legacy = _LEGACY_FOLDERS.get(kind)
        if legacy and not folder.exists() and (self._store.path / legacy).is_dir():
            return self._store.path / legacy
        return folder

    def _path(self, name: ObjectName) -> Path:
        """Where an object is written to."""
        if name.kind.is_root_file:
            return self._store.path / name.kind.value
        folder = self._folders[name.kind]
        return folder / name.id[:2] / name.id if name.kind is ObjectKind.PACK else folder / name.id

    def _make_folders(self) -> None:
        root = self._store.path
        root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for folder in (*_FOLDERS, _TEMPORARY):
            (root / folder).mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(root)

    def _ensure_pack_folder(self, folder: Path) -> None:
        """Make one of the 256 folders of packs, with the first pack that lies in it.

        One that is there may be another's, who has not synced `data` yet: what was there before our own sync is safe.
        """
        if folder.name in self._durable and folder.is_dir():
            return
        known = set() if self._durable else subfolders(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)
        self._durable |= known | {folder.name}

    def _write(self, name: ObjectName, body: Buffer, *, exclusive: bool = False) -> bool:
        """Temporary file, sync, rename (or link, which refuses to replace), sync of the folder."""
        path = self._path(name)
        if name.kind is ObjectKind.PACK:
            self._ensure_pack_folder(path.parent)
        else:
            ensure_folder(path.parent)
        temporary = self._temporary(path)
        try:
            write_synced(temporary, body)
            if exclusive:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    temporary.rename(path)  # a file system without links; `alone` keeps others away
            else:
                temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _temporary(self, path: Path) -> Path:
        """Beside the object where its folder lies on another disk, else in `tmp`, which is swept."""
        folder = self._store.path / _TEMPORARY
        ensure_folder(folder)
        if folder.stat().st_dev != path.parent.stat().st_dev:
            folder = path.parent
        return folder / f"{path.name}-tmp-{secrets.token_hex(4)}"


def sweep(store: LocalStore, now: float | None = None) -> int:
    """Remove temporary files that were left by a crash more than a day ago. Answers how many."""
    now = time.time() if now is None else now
    removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(store.path / _TEMPORARY) as entries:
        for entry in entries:
            if entry.name == RESERVE or not entry.is_file(follow_symlinks=False):
                continue
            if now - entry.stat().st_mtime > _ABANDONED_SECONDS:
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
    return removed
