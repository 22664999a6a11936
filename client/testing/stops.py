"""A session that breaks at a set call, before the store has heard it or after, for tests of what is left then."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from client.errors import StoreError
from client.stores.abc import Buffer, ObjectInfo, StoreSession
from client.testing.faults import SessionAround
from domain.names import ObjectKind, ObjectName

T = TypeVar("T")


class StoppingSession(SessionAround):
    """Call number `at` (from 0), and all after it, fail; with `is_reply_lost` that one is carried out first."""

    def __init__(self, session: StoreSession, at: int, *, is_reply_lost: bool) -> None:
        super().__init__(session)
        self._at = at
        self._is_reply_lost = is_reply_lost
        self._lock = threading.Lock()
        self.calls = 0

    @property
    def has_stopped(self) -> bool:
        return self.calls > self._at

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        return self._call(lambda: self.inner.put(name, body, packs))

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._call(lambda: self.inner.get(name, offset, length))

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return iter(self._call(lambda: tuple(self.inner.list(kind))))

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self._call(lambda: self.inner.reserve(packs))

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self._call(lambda: self.inner.commit(snapshot, body))

    def remove(self, name: ObjectName) -> None:
        self._call(lambda: self.inner.remove(name))

    def mark(self) -> None:
        self._call(self.inner.mark)

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, str]:
        return self._call(lambda: self.inner.condemn(names))

    def replace_seal(self, body: Buffer) -> None:
        self._call(lambda: self.inner.replace_seal(body))

    def _call(self, action: Callable[[], T]) -> T:
        with self._lock:
            number = self.calls
            self.calls += 1
        if number > self._at or (number == self._at and not self._is_reply_lost):
            raise StoreError(place="the store", detail="the connection broke")
        answer = action()
        if number == self._at:
            raise StoreError(place="the store", detail="the connection broke")
        return answer
