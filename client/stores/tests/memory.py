"""A store in memory, for tests of what stands on stores. It passes the contract suite."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Self

from client.errors import (
    AppendOnly,
    DamagedVault,
    NameMismatch,
    NotSupported,
    ObjectMissing,
    ParentGone,
    SealChanged,
    SessionOver,
    SnapshotInUse,
    TruncatedObject,
)
from client.stores.abc import Buffer, ObjectInfo, Refusal
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


class MemoryStore:
    """`objects` may be looked at and tampered with; `declared` are the packs told with each put.

    Without `needs_locks` it keeps sessions apart as the storage role does: `removed` holds what was removed, with the
    number of sessions opened before; `users` the numbers of the sessions that put or reserved an object.
    """

    def __init__(self, *, needs_locks: bool = False) -> None:
        self.needs_locks = needs_locks
        self.place = "memory"
        self.held = ""  # why nothing is condemned, as a mark is told
        self.objects: dict[ObjectName, bytes] = {}
        self.declared: dict[ObjectName, tuple[ObjectName, ...]] = {}
        self.removed: dict[ObjectName, tuple[bytes, int]] = {}
        self.pins: dict[int, ObjectName] = {}
        self.users: dict[ObjectName, set[int]] = {}
        self.open_sessions: set[int] = set()
        self.openings = 0
        self.allowed = set(Purpose)
        self.lock = threading.Lock()

    def allows(self, purpose: Purpose) -> bool:
        return purpose in self.allowed

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "MemorySession":
        if purpose not in self.allowed:
            raise AppendOnly(place=self.place)
        if parent is not None and parent not in self.objects:
            raise ParentGone(parent=parent, place=self.place)
        session = MemorySession(self, purpose)
        if parent is not None:
            self.pins[session.number] = parent
        return session

    def close(self) -> None:
        """Nothing is kept open."""


class MemorySession:
    lost: frozenset[ObjectName] = frozenset()
    has_more_lost = False

    def __init__(self, store: MemoryStore, purpose: Purpose) -> None:
        self.store = store
        self.purpose = purpose
        self.over = False
        store.openings += 1
        self.number = store.openings
        store.open_sessions.add(self.number)
        self.over_before: frozenset[int] | None = None  # the mark

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        self._check()
        with self.store.lock:
            if CONFIG in self.store.objects:
                return False
            self.store.objects |= {key: bytes(key_body), CONFIG: bytes(config)}
            if seal:
                self.store.objects[SEAL] = bytes(seal)
            return True

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        self._check()
        self.store.declared[name] = tuple(packs)
        if sha256(body).hexdigest() != name.id:
            raise NameMismatch(name=name, place=self.store.place)
        with self.store.lock:
            is_new = name not in self.store.objects
            self.store.objects[name] = bytes(body)
            self.store.users.setdefault(name, set()).add(self.number)
            return is_new

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        self._check()
        body = self._seen().get(name)
        if body is None:
            raise ObjectMissing(name=name, place=self.store.place)
        part = body[offset:] if length is None else body[offset : offset + length]
        if length is not None and len(part) < length:
            raise TruncatedObject(name=name, detail=f"{len(part)} of {length} bytes are there")
        if length is None and not offset and name.id and sha256(part).hexdigest() != name.id:
            raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
        return part

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        self._check()
        with self.store.lock:
            return iter([ObjectInfo(n, len(b)) for n, b in sorted(self._seen().items()) if n.kind is kind])

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        self._check()
        with self.store.lock:
            for pack in packs:
                if pack in self.store.removed:
                    self.store.objects.setdefault(pack, self.store.removed.pop(pack)[0])
                self.store.users.setdefault(pack, set()).add(self.number)
            return frozenset(pack for pack in packs if pack not in self.store.objects)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self.put(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self._check()
        store = self.store
        if not store.needs_locks and (self.purpose is not Purpose.RETENTION or name.kind is not ObjectKind.SNAPSHOT):
            raise NotSupported(place=store.place, detail="only retention removes, and snapshots alone")
        with store.lock:
            if name not in store.objects:
                raise ObjectMissing(name=name, place=store.place)
            if not store.needs_locks and name in store.pins.values():
                raise SnapshotInUse(place=store.place, snapshot=name.id)
            store.removed[name] = store.objects.pop(name), store.openings

    def mark(self) -> str:
        self._check()
        store = self.store
        if store.needs_locks:
            return ""
        if self.purpose is not Purpose.RETENTION or self.over_before is not None:
            raise NotSupported(place=store.place, detail="only retention marks, and once")
        self.over_before = frozenset(range(store.openings + 1)) - store.open_sessions
        return store.held

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        self._check()
        store = self.store
        if not store.needs_locks and self.over_before is None:
            raise NotSupported(place=store.place, detail="only retention condemns, after its mark")
        stays = {}
        with store.lock:
            for name in names:
                if self.over_before is not None and store.users.get(name, set()) - self.over_before:
                    stays[name] = Refusal("a session uses it", in_use=True)
                elif name in store.objects:
                    store.removed[name] = store.objects.pop(name), store.openings
        return stays

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self._check()
        needed = {Purpose.RETENTION} if SEAL in self.store.objects else set(Purpose) - {Purpose.READ}
        if not self.store.needs_locks and self.purpose not in needed:
            raise NotSupported(place=self.store.place, detail="only retention replaces a seal")
        if self.store.objects.get(SEAL) not in (replaced, bytes(body)):
            raise SealChanged(place=self.store.place)
        self.store.objects[SEAL] = bytes(body)

    def close(self) -> None:
        self.over = True
        self.store.open_sessions.discard(self.number)
        self.store.pins.pop(self.number, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seen(self) -> dict[ObjectName, bytes]:
        kept = {} if self.store.needs_locks or self.purpose is Purpose.RETENTION else self.store.removed
        return {name: body for name, (body, opened) in kept.items() if self.number <= opened} | self.store.objects

    def _check(self) -> None:
        if self.over:
            raise SessionOver(place=self.store.place)
