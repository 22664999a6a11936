"""One session on an object store or WebDAV."""

import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from hashlib import sha256
from itertools import groupby, islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from client.errors import (
    DamagedVault,
    NameMismatch,
    ObjectMissing,
    SealChanged,
    SessionOver,
    StoreError,
    TruncatedObject,
)
from client.stores.abc import Buffer, ObjectInfo, Refusal
from client.stores.cloud.failures import Failure, Trouble
from client.stores.cloud.store import TEMPORARY, CloudStore, deleting, listing, sizing
from domain.names import CONFIG, SEAL, BadName, ObjectKind, ObjectName

if TYPE_CHECKING:
    from opendal import AsyncOperator

T = TypeVar("T")

_AHEAD = 8  # folders of packs that are listed at once
_DELETED_AT_ONCE = 256


class CloudSession:
    """Methods may be called from several threads."""

    lost: frozenset[ObjectName] = frozenset()  # nobody looks for damage before it is read
    has_more_lost = False

    def __init__(self, store: CloudStore) -> None:
        self._store = store
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        """First use: a key, the seal, and last `config`, which alone makes a vault of them.

        Who comes second creates no seal, for one is there, and no `config`. Who has created `config` puts its own seal
        in place of one that it found, of somebody who came second or never came so far.
        """
        with self._store.first_use:
            if self.exists(CONFIG):
                return False
            self._write(key, key_body)
            sealed = not seal or self._create(SEAL, seal)
            if not self._create(CONFIG, config):
                self._delete([key])
                return False
            if not sealed:
                self._write(SEAL, seal)
            return True

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:  # noqa: ARG002 - restic's locks keep the packs here
        """Store an object durably; one that lies there cut short is replaced."""
        self._check()
        if name.kind.is_root_file or sha256(body).hexdigest() != name.id:
            raise NameMismatch(name=name, place=self._store.place)
        if self._size(name) == len(body):
            return False
        self._write(name, body)
        return True

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        self._check()
        if length == 0:
            if self._size(name) is None:
                raise ObjectMissing(name=name, place=self._store.place)
            return b""
        if length is None and not offset:
            body = self._run(lambda operator: operator.read(name.path), name)
            if name.id and sha256(body).hexdigest() != name.id:
                raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
            return body
        if length is None:
            return self._run(lambda operator: operator.read(name.path, offset=offset), name)
        body = self._run(lambda operator: operator.read(name.path, offset=offset, size=length), name, length)
        if len(body) != length:
            raise TruncatedObject(name=name, detail=f"{len(body)} of {length} bytes from {offset} are there")
        return body

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        """In the order of their names."""
        self._check()
        if kind.is_root_file:
            size = self._size(ObjectName(kind))
            return iter([] if size is None else [ObjectInfo(ObjectName(kind), size)])
        if kind is ObjectKind.PACK:
            return self._list_packs()
        found = self._run(listing(f"{kind.value}/"))
        return iter(_objects(found, kind))

    def _list_packs(self) -> Iterator[ObjectInfo]:
        """By sub-folder, so that memory does not grow with the vault; some are listed ahead."""
        present = self._run(listing(f"{ObjectKind.PACK.value}/"))
        folders = deque(sorted(entry.path for entry in present if entry.metadata.is_dir and _is_of_packs(entry.path)))
        ahead: deque[Future[list[Any]]] = deque()
        try:
            while folders or ahead:
                while folders and len(ahead) < _AHEAD:
                    folder = folders.popleft()
                    ahead.append(self._begin(listing(folder)))
                found = self._result(ahead.popleft())
                yield from _objects(found, ObjectKind.PACK)
                self._check()
        finally:
            for future in ahead:
                future.cancel()

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """The packs that are gone. The vault's lock file keeps the others."""
        self._check()
        sizes = [(pack, self._begin(sizing(pack.path))) for pack in packs]
        return frozenset(pack for pack, future in sizes if self._result(future, pack) is None)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self.put(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self._check()
        if not self.exists(name):
            raise ObjectMissing(name=name, place=self._store.place)
        self._delete([name])

    def mark(self) -> str:
        """Nothing to draw: the exclusive lock keeps every other session away."""
        self._check()
        return ""

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        """Remove at once, each kind before the next: an index file is never there without its packs."""
        self._check()
        for _, alike in groupby(names, lambda name: name.kind):
            self._delete(alike)
        return {}

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        """Looks, then writes: restic's exclusive lock, which the caller holds, keeps every other session away."""
        self._check()
        present = self.get(SEAL) if self.exists(SEAL) else None
        if present not in (replaced, bytes(body)):
            raise SealChanged(place=self._store.place)
        self._write(SEAL, body)

    def exists(self, name: ObjectName) -> bool:
        return self._size(name) is not None

    def run(self, call: "Callable[[AsyncOperator], Awaitable[T]]") -> T:
        """Something else with the store's operator. Raises StoreError."""
        return self._run(call)

    def close(self) -> None:
        """Calls that are under way in other threads end with SessionOver."""
        self._over.set()
        with self._lock:
            under_way = list(self._under_way)
        for future in under_way:
            future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._over.is_set():
            raise SessionOver(place=self._store.place)

    def _begin(self, call: "Callable[[AsyncOperator], Awaitable[T]]", size: int = 0) -> "Future[T]":
        with self._lock:
            self._check()
            future = self._store.begin(call, size)
            self._under_way.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self._under_way.discard(future)

    def _result(self, future: "Future[T]", name: ObjectName | None = None) -> T:
        try:
            return future.result()
        except Failure as failure:
            raise self._store.told(failure, name) from None
        except CancelledError:
            raise SessionOver(place=self._store.place) from None
        except BaseException:  # an interruption: nothing goes on behind it
            future.cancel()
            raise

    def _run(self, call: "Callable[[AsyncOperator], Awaitable[T]]", name: ObjectName | None = None, size: int = 0) -> T:
        return self._result(self._begin(call, size), name)

    def _size(self, name: ObjectName) -> int | None:
        return self._run(sizing(name.path), name)

    def _write(self, name: ObjectName, body: Buffer) -> None:
        """Store all of an object, in place of what has its name."""
        path = name.path
        if not self._store.shows_halves:
            self._run(lambda operator: operator.write(path, body), name, len(body))  # type: ignore[arg-type]
        else:
            beside = f"{TEMPORARY}{name.id or name.kind.value}-{secrets.token_hex(4)}"
            try:
                self._run(lambda operator: operator.write(beside, body), name, len(body))  # type: ignore[arg-type]
                self._ensure_size(name, beside, len(body))
                self._place(name, beside, len(body))
            except StoreError:
                with suppress(StoreError):
                    self._run(deleting(beside))
                raise
        self._ensure_size(name, path, len(body))

    def _place(self, name: ObjectName, beside: str, size: int) -> None:
        """Rename one that is whole; servers may remove what is there first, so one that has come meanwhile stays."""
        with self._store.renaming:
            if name.id and self._size(name) == size:
                self._run(deleting(beside))
            else:
                self._run(lambda operator: operator.rename(beside, name.path), name)

    def _ensure_size(self, name: ObjectName, path: str, size: int) -> None:
        stored = self._run(sizing(path), name)
        if stored != size:
            found = "is not there" if stored is None else f"has {stored} bytes"
            detail = f"{name} was stored with {size} bytes, and {found}: the store loses what it is given"
            raise StoreError(place=self._store.place, detail=detail)

    def _create(self, name: ObjectName, body: Buffer) -> bool:
        """Store a root file if there is none. False if there is another; where the store cannot tell, it is looked."""
        if not self._store.creates_once:
            if self.exists(name):
                return False
            self._write(name, body)
            return True
        future = self._begin(lambda operator: operator.write(name.path, body, if_not_exists=True), len(body))  # type: ignore[arg-type]
        try:
            future.result()
        except Failure as failure:
            if failure.trouble is not Trouble.EXISTS:
                raise self._store.told(failure, name) from None
        except CancelledError:
            raise SessionOver(place=self._store.place) from None
        # Ours, if an answer was lost and the call repeated.
        return self.get(name) == bytes(body)

    def _delete(self, names: Iterable[ObjectName]) -> None:
        waiting = iter(names)
        while batch := list(islice(waiting, _DELETED_AT_ONCE)):
            begun = [(name, self._begin(deleting(name.path))) for name in batch]
            for name, future in begun:
                with suppress(ObjectMissing):
                    self._result(future, name)


def _is_of_packs(folder: str) -> bool:
    name = folder.strip("/").rpartition("/")[2]
    return len(name) == 2 and all(digit in "0123456789abcdef" for digit in name)  # noqa: PLR2004 - `data/xx/`


def _objects(found: Iterable[Any], kind: ObjectKind) -> list[ObjectInfo]:
    """The objects among what was listed, by name; whatever else lies there is not ours."""
    objects = []
    for entry in found:
        with suppress(BadName):
            if entry.metadata.is_file:
                name = ObjectName(kind, entry.path.rpartition("/")[2])
                objects.append(ObjectInfo(name, entry.metadata.content_length))
    return sorted(objects, key=lambda info: info.name)
