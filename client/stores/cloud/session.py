"""One session on an object store, WebDAV or SFTP."""

import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from hashlib import sha256
from itertools import groupby, islice
from types import TracebackType
from typing import Any, Self, TypeVar

from client.errors import (
    DamagedVault,
    NameMismatch,
    ObjectMissing,
    OortError,
    SealChanged,
    SessionOver,
    StoreError,
)
from client.stores.abc import Buffer, ObjectInfo, Refusal
from client.stores.cloud.lists import complete_listing, is_of_packs, objects_among
from client.stores.cloud.store import FOLDERS, TEMPORARY, CloudStore
from clouds.failures import Failure, Trouble
from clouds.operations import cut, deleting, listing, reading, sizing
from clouds.operator import Entry, Operator
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

T = TypeVar("T")

_AHEAD = 8  # folders of packs that are listed at once
_DELETED_AT_ONCE = 256
_DECISIVE = frozenset((ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.LOCK))  # for what is removed
_LARGE = frozenset((ObjectKind.PACK, ObjectKind.INDEX))
# Few and decisive: a list that lacks one which was just stored is an old list, and may lack others' too.
_MUST_BE_LISTED = frozenset((ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.KEY, ObjectKind.LOCK))
_READINGS = 3  # of bytes that are fewer or other than they must be


class CloudSession:
    """Methods may be called from several threads."""

    lost: frozenset[ObjectName] = frozenset()  # nobody looks for damage before it is read
    has_more_lost = False

    def __init__(self, store: CloudStore, purpose: Purpose) -> None:
        self._store = store
        self._removes = purpose is Purpose.RETENTION
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._stored: set[ObjectName] = set()  # by this session, of the kinds that its lists must have

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        """First use: a key, the seal, and last `config`, which alone makes a vault of them.

        Who comes second creates no seal, for one is there, and no `config`. Who has created `config` puts its own seal
        in place of one that it found, of somebody who came second or never came so far. What fails before `config`
        takes its key along; once `config` was tried it stays, for an answer that was lost may have been a yes.
        """
        with self._store.first_use:
            if self.exists(CONFIG):
                return False
            try:
                if self._store.has_folders:
                    self._make_folders()
                self._write(key, key_body)
                self._try_condition(key, key_body)
                self._listed(key.kind)  # a page of some other server would be a list of nothing
                sealed = not seal or self._create(SEAL, seal)
            except BaseException:
                with suppress(OortError):
                    self._delete([key])
                raise
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
        if length is None and not offset:
            return self._whole(name)
        if not length:
            size = self._stored_size(name)
            return b"" if length == 0 or size <= offset else self._part(name, offset, size - offset)
        return self._part(name, offset, length)

    def _whole(self, name: ObjectName) -> bytes:
        """All of it, read again where it has another hash than its name, or another size than it is said to have."""
        stored = self._stored_size(name) if name.kind in _LARGE else 0
        body = b""
        for _ in range(_READINGS):
            body = self._run(lambda operator: operator.read(name.path), name, stored)
            if name.id and sha256(body).hexdigest() == name.id:
                return body
            stored = self._stored_size(name)
            if not name.id and len(body) == stored:
                return body
        if len(body) != stored:
            raise self._told(cut(0, stored), name)
        raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")

    def _part(self, name: ObjectName, offset: int, length: int) -> bytes:
        """A part of it, read again where fewer bytes come than there are."""
        return self._run(reading(name.path, offset, length), name, length)

    def _stored_size(self, name: ObjectName) -> int:
        size = self._size(name)
        if size is None:
            raise ObjectMissing(name=name, place=self._store.place)
        return size

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        """In the order of their names. Raises StoreError where a folder is missing, which is not the same as empty."""
        self._check()
        if kind.is_root_file:
            size = self._size(ObjectName(kind))
            return iter([] if size is None else [ObjectInfo(ObjectName(kind), size)])
        if kind is ObjectKind.PACK:
            return self._list_packs()
        return iter(objects_among(self._listed(kind), kind))

    def _expected(self) -> frozenset[ObjectName]:
        """What lists must have."""
        with self._lock:
            return frozenset(self._stored)

    def _listed(self, kind: ObjectKind) -> Iterable[Entry]:
        folder = f"{kind.value}/"
        earlier = self._store.remembered.of(kind) if self._removes else frozenset()
        found = self._run(complete_listing(folder, self._expected))
        if not found and kind in _DECISIVE and self._store.has_folders and self._size(CONFIG) is not None:
            there = self._run(lambda operator: operator.exists(folder))
            if not there:
                detail = f"the vault has no folder '{kind.value}': where it is lost for good, make an empty one"
                raise StoreError(place=self._store.place, detail=detail)
        listed = {entry.path for entry in found}
        lacking = sorted(name for name in earlier if name.path not in listed)
        removed = self._missing(lacking)
        self._store.remembered.forget_missing(removed)
        if late := frozenset(lacking) - removed:
            found = self._run(complete_listing(folder, self._expected, late))
        return found

    def _list_packs(self) -> Iterator[ObjectInfo]:
        """By sub-folder, so that memory does not grow with the vault; some are listed ahead."""
        present = self._listed(ObjectKind.PACK)
        folders = deque(sorted({entry.path for entry in present if entry.metadata.is_dir and is_of_packs(entry.path)}))
        ahead: deque[Future[list[Entry]]] = deque()
        try:
            while folders or ahead:
                while folders and len(ahead) < _AHEAD:
                    folder = folders.popleft()
                    ahead.append(self._begin(listing(folder)))
                found = self._result(ahead.popleft())
                yield from objects_among(found, ObjectKind.PACK)
                self._check()
        finally:
            for future in ahead:
                future.cancel()

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """The packs that are gone. The vault's lock file keeps the others."""
        self._check()
        return self._missing(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self.put(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self._check()
        if not self.exists(name):
            with self._lock:
                self._stored.discard(name)
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

    def run(self, call: Callable[[Operator], Awaitable[T]]) -> T:
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

    def _begin(self, call: Callable[[Operator], Awaitable[T]], size: int = 0) -> "Future[T]":
        with self._lock:
            self._check()
            future = self._store.begin(call, size)
            self._under_way.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self._under_way.discard(future)

    def _result(self, future: "Future[T]", name: ObjectName | None = None, *, told: bool = True) -> T:
        """What a call answers; where it fails, the client's error for it, or Failure if it is not `told`."""
        try:
            return future.result()
        except Failure as failure:
            if not told:
                raise
            raise self._told(failure, name) from None
        except CancelledError:
            raise SessionOver(place=self._store.place) from None
        except BaseException:  # an interruption: nothing goes on behind it
            future.cancel()
            raise

    def _told(self, failure: Failure, name: ObjectName | None) -> OortError:
        """The client's error. A pack that comes short keeps nobody from the others but who removes what is damaged."""
        if failure.trouble is Trouble.CUT and name is not None and name.kind is ObjectKind.PACK and not self._removes:
            return DamagedVault(name=name, detail=failure.said)
        return self._store.told(failure, name)

    def _run(self, call: Callable[[Operator], Awaitable[T]], name: ObjectName | None = None, size: int = 0) -> T:
        return self._result(self._begin(call, size), name)

    def _size(self, name: ObjectName) -> int | None:
        return self._run(sizing(name.path), name)

    def _missing(self, names: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """Those that are not there. Each is a call of its own: thousands may be asked for."""
        sizes = [(name, self._begin(sizing(name.path))) for name in names]
        return frozenset(name for name, future in sizes if self._result(future, name) is None)

    def _write(self, name: ObjectName, body: Buffer) -> None:
        """Store all of an object, in place of what has its name."""
        self._store.remembered.add(name)
        if not self._store.shows_halves:
            self._send(name, name.path, body)
        else:
            beside = f"{TEMPORARY}{name.id or name.kind.value}-{secrets.token_hex(4)}"
            try:
                self._send(name, beside, body)
                self._ensure_size(name, beside, len(body))
                self._place(name, beside, body)
            except StoreError:
                with suppress(StoreError):
                    self._run(deleting(beside))
                raise
        self._ensure_size(name, name.path, len(body))
        if name.kind in _MUST_BE_LISTED:
            with self._lock:
                self._stored.add(name)

    def _send(self, name: ObjectName, path: str, body: Buffer, *, if_none: bool = False) -> None:
        """One write of all bytes; with `if_none` it raises Failure with EXISTS or UNKNOWN_TO_IT."""
        condition = {"if_not_exists": True} if if_none else {}
        sent = bytes(body)  # opendal takes a memoryview byte by byte: 0.2 s for 16 MiB, in which nothing else runs
        while True:
            future = self._begin(lambda operator: operator.write(path, sent, **condition), len(sent))
            try:
                self._result(future, told=False)
            except Failure as failure:
                if failure.trouble is Trouble.UNKNOWN_TO_IT and self._store.do_without_checksums():
                    continue
                if if_none and failure.trouble in (Trouble.EXISTS, Trouble.UNKNOWN_TO_IT):
                    raise
                # Without the name: that something is missing here is no loss of an object.
                raise self._store.told(Failure(failure.trouble, f"{failure.said} (storing {name})")) from None
            return

    def _place(self, name: ObjectName, beside: str, body: Buffer) -> None:
        """Rename one that is whole; servers may remove what is there first, so one that has come meanwhile stays.

        What is no more beside may have been renamed by a call whose answer was lost.
        """
        with self._store.renaming:
            if name.id and self._size(name) == len(body):
                self._run(deleting(beside))
                return
            try:
                self._run(lambda operator: operator.rename(beside, name.path), name)
            except ObjectMissing:
                size = self._size(name)
                if size != len(body) or (not name.id and self.get(name) != bytes(body)):
                    detail = f"{name} was stored beside its place, and is gone: run the command again"
                    raise StoreError(place=self._store.place, detail=detail) from None

    def _make_folders(self) -> None:
        """So that one that is missing later is not taken for an empty one."""
        for folder in FOLDERS:
            self._run(lambda operator, folder=folder: operator.create_dir(folder))  # type: ignore[misc]

    def _ensure_size(self, name: ObjectName, path: str, size: int) -> None:
        """Wait for the store to show what was stored; one that does not has lost it."""

        async def shown(operator: Operator) -> None:
            stored = await sizing(path)(operator)
            if stored != size:
                found = "is not there" if stored is None else f"has {stored} bytes"
                said = f"{name} was stored with {size} bytes, and {found}: the store loses what it is given"
                raise Failure(Trouble.BEHIND, f"{said}, so take another if it happens again")

        self._run(shown)

    def _create(self, name: ObjectName, body: Buffer) -> bool:
        """Store a root file if there is none. False if there is another; where the store cannot tell, it is looked."""
        if self._store.creates_once:
            try:
                self._send(name, name.path, body, if_none=True)
            except Failure as failure:
                if failure.trouble is Trouble.UNKNOWN_TO_IT:
                    self._store.do_without_conditions()
            # Also after EXISTS: it is ours, if an answer was lost and the call repeated.
        if self._store.creates_once:
            return self.get(name) == bytes(body)
        if self.exists(name):
            return False
        self._write(name, body)
        return self.get(name) == bytes(body)

    def _try_condition(self, key: ObjectName, body: Buffer) -> None:
        """Whether the store heeds a write that is to replace nothing: some take it where there is an object."""
        if self._store.creates_once:
            try:
                self._send(key, key.path, body, if_none=True)
            except Failure as failure:
                if failure.trouble is Trouble.EXISTS:
                    return
            self._store.do_without_conditions()

    def _delete(self, names: Iterable[ObjectName]) -> None:
        waiting = iter(names)
        while batch := list(islice(waiting, _DELETED_AT_ONCE)):
            with self._lock:
                self._stored.difference_update(batch)
            begun = [(name, self._begin(deleting(name.path))) for name in batch]
            for name, future in begun:
                with suppress(ObjectMissing):
                    self._result(future, name)
            self._store.remembered.forget(batch)
