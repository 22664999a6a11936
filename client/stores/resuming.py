"""Reading that outlives its session: when a node has ended one, the next call opens another.

Kept true: nothing carries over (docs/sessions.md, rule 4). A list comes from one session as a whole; `number` tells
whoever has listed something that it must be listed anew; the snapshot that is being read is looked for in the new
session before anything else is. What is read stays what it was: objects never change, and blobs are verified.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from client.errors import DamagedVault, NotSupported, ObjectMissing, SessionOver, SnapshotRemoved, StoreError
from client.stores.abc import Buffer, ObjectInfo, ObjectStore, Refusal, StoreSession
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

T = TypeVar("T")

_FRUITLESS = 3  # sessions in a row that end before a single call is answered


class ResumingSession:
    """A StoreSession for reading. Methods may be called from several threads."""

    lost: frozenset[ObjectName] = frozenset()  # told to backups only
    has_more_lost = False

    def __init__(self, store: ObjectStore, heard: Callable[[], None] = lambda: None) -> None:
        """`heard` is called after each answer of the store."""
        self._store = store
        self._heard = heard
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._fruitless = 0
        self._snapshot: ObjectName | None = None
        self._inner: StoreSession = store.open(Purpose.READ)
        self.number = 1  # of the present session
        heard()

    def stay_with(self, snapshot: ObjectName) -> None:
        """Every new session must see this snapshot; where one does not, SnapshotRemoved ends the work."""
        self._snapshot = snapshot

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._call(lambda session: session.get(name, offset, length))

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return iter(self._call(lambda session: tuple(session.list(kind))))

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:  # noqa: ARG002 - the protocol's
        raise self._refusal()

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        """A store that needs locks keeps those of readers too; there sessions do not end, so nothing is repeated."""
        if not self._store.needs_locks:
            raise self._refusal()
        return self._inner.put(name, body, packs)

    def remove(self, name: ObjectName) -> None:
        if not self._store.needs_locks:
            raise self._refusal()
        self._inner.remove(name)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:  # noqa: ARG002 - the protocol's
        raise self._refusal()

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:  # noqa: ARG002 - the protocol's
        raise self._refusal()

    def mark(self) -> str:
        raise self._refusal()

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:  # noqa: ARG002 - the protocol's
        raise self._refusal()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:  # noqa: ARG002 - the protocol's
        raise self._refusal()

    def close(self) -> None:
        # Not under the lock: a thread that is opening a session holds it, and looks at `_closed` when it is open.
        self._closed.set()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, action: Callable[[StoreSession], T]) -> T:
        while True:
            session, number = self._present()
            try:
                answer = action(session)
            except SessionOver:
                self._renew(number)
            else:
                self._fruitless = 0
                self._heard()
                return answer

    def _present(self) -> tuple[StoreSession, int]:
        with self._lock:
            return self._inner, self.number

    def _renew(self, ended: int) -> None:
        """Open a session in place of number `ended`, unless another thread has done so already."""
        with self._lock:
            if self._closed.is_set():
                raise SessionOver(place=self._store.place)
            if self.number != ended:
                return
            self._fruitless += 1
            if self._fruitless > _FRUITLESS:
                raise StoreError(place=self._store.place, detail="it ends every session at once: try again later")
            self._inner.close()
            self._inner = self._store.open(Purpose.READ)
            self.number += 1
            if self._closed.is_set():
                self._inner.close()
                raise SessionOver(place=self._store.place)
            self._look_for_snapshot()

    def _look_for_snapshot(self) -> None:
        if self._snapshot is None:
            return
        try:
            self._inner.get(self._snapshot)
        except ObjectMissing:
            raise SnapshotRemoved(snapshot=self._snapshot.id[:8], place=self._store.place) from None
        except DamagedVault:
            return  # it is there, and was read before
        except SessionOver:
            return  # the call that is repeated finds out, and comes here again

    def _refusal(self) -> StoreError:
        return NotSupported(place=self._store.place, detail="this session only reads")
