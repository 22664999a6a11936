"""A client that ends at a set call to its store, for tests of what is left then and of what comes after.

The call is lost before the store has heard it, or it is done and its reply is lost; whatever the client asks for
after that, to put things in order or to say goodbye, is not heard either, as when its process was killed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from client.errors import StoreError
from client.stores.abc import Buffer, ObjectInfo, ObjectStore, Refusal, StoreSession
from client.testing.faults import SessionAround
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

T = TypeVar("T")


class Stop:
    """Call number `at` (from 0) is the last; with `is_reply_lost` it is carried out.

    Counts the `calls` of all threads; `changes` are the numbers of those that may change something in the store.
    """

    def __init__(self, at: int, *, is_reply_lost: bool) -> None:
        self._at = at
        self._is_reply_lost = is_reply_lost
        self._lock = threading.Lock()
        self.calls = 0
        self.changes: list[int] = []

    @property
    def has_come(self) -> bool:
        return self.calls > self._at

    def call(self, action: Callable[[], T], *, reads: bool = False) -> T:
        """Do what the client asks of the store, unless it has ended. Raises StoreError when that is now or was."""
        with self._lock:
            number = self.calls
            self.calls += 1
            if not reads:
                self.changes.append(number)
        if number > self._at or (number == self._at and not self._is_reply_lost):
            raise StoreError(place="the store", detail="the connection broke")
        answer = action()
        if number == self._at:
            raise StoreError(place="the store", detail="the connection broke")
        return answer


class StoppingSession(SessionAround):
    """A session of such a client. What it does not come to close stays open."""

    def __init__(self, session: StoreSession, stop: Stop) -> None:
        super().__init__(session)
        self._stop = stop

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        return self._stop.call(lambda: self.inner.initialise(key, key_body, config, seal))

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        return self._stop.call(lambda: self.inner.put(name, body, packs))

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._stop.call(lambda: self.inner.get(name, offset, length), reads=True)

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return iter(self._stop.call(lambda: tuple(self.inner.list(kind)), reads=True))

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self._stop.call(lambda: self.inner.reserve(packs))

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self._stop.call(lambda: self.inner.commit(snapshot, body))

    def remove(self, name: ObjectName) -> None:
        self._stop.call(lambda: self.inner.remove(name))

    def mark(self) -> str:
        return self._stop.call(self.inner.mark)

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        return self._stop.call(lambda: self.inner.condemn(names))

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self._stop.call(lambda: self.inner.replace_seal(body, replaced))

    def close(self) -> None:
        with suppress(StoreError):  # a close never fails
            self._stop.call(self.inner.close)


class StoppingStore:
    """The store of such a client; to open a session and to close one are calls too."""

    def __init__(self, store: ObjectStore, stop: Stop) -> None:
        self._store = store
        self._stop = stop
        self._opened: list[StoreSession] = []

    @property
    def needs_locks(self) -> bool:
        return self._store.needs_locks

    @property
    def place(self) -> str:
        return self._store.place

    def allows(self, purpose: Purpose) -> bool:
        return self._store.allows(purpose)

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> StoppingSession:
        return StoppingSession(self._stop.call(lambda: self._open(purpose, parent)), self._stop)

    def close(self) -> None:
        """End the threads of the sessions that the client has left open, which a killed process would not have."""
        for session in self._opened:
            session.close()

    def _open(self, purpose: Purpose, parent: ObjectName | None) -> StoreSession:
        self._opened.append(self._store.open(purpose, parent))
        return self._opened[-1]
