"""Sessions that fail at a set moment, for tests of what happens then."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import Self

from client.stores.abc import Buffer, ObjectInfo, Refusal, StoreSession
from domain.names import ObjectKind, ObjectName


class SessionAround:
    """Passes every call on to another session."""

    def __init__(self, session: StoreSession) -> None:
        self.inner = session

    @property
    def lost(self) -> frozenset[ObjectName]:
        return self.inner.lost

    @property
    def has_more_lost(self) -> bool:
        return self.inner.has_more_lost

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        return self.inner.initialise(key, key_body, config, seal)

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        return self.inner.put(name, body, packs)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self.inner.get(name, offset, length)

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return self.inner.list(kind)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self.inner.reserve(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self.inner.commit(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self.inner.remove(name)

    def mark(self) -> str:
        return self.inner.mark()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        return self.inner.condemn(names)

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self.inner.replace_seal(body, replaced)

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FailingPut(SessionAround):
    """The put number `nth` of a kind raises `error`."""

    def __init__(self, session: StoreSession, kind: ObjectKind, nth: int, error: BaseException) -> None:
        super().__init__(session)
        self._kind = kind
        self._left = nth
        self._error = error
        self._lock = threading.Lock()

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is self._kind:
            with self._lock:
                self._left -= 1
                if not self._left:
                    raise self._error
        return super().put(name, body, packs)


class Watched(SessionAround):
    """Calls `on_put` before each put, and keeps the order of what was stored."""

    def __init__(self, session: StoreSession, on_put: Callable[[ObjectName], None] | None = None) -> None:
        super().__init__(session)
        self.stored: list[ObjectName] = []
        self.reserved: list[ObjectName] = []
        self._on_put = on_put

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if self._on_put:
            self._on_put(name)
        new = super().put(name, body, packs)
        self.stored.append(name)
        return new

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        self.reserved.extend(packs)
        return super().reserve(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        super().commit(snapshot, body)
        self.stored.append(snapshot)


class GonePacks(SessionAround):
    """Says of some packs that they are gone when they are to be reserved."""

    def __init__(self, session: StoreSession, gone: Callable[[ObjectName], bool]) -> None:
        super().__init__(session)
        self._gone = gone

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return super().reserve(packs) | frozenset(filter(self._gone, packs))


class OneCopyAltered(SessionAround):
    """A store of two copies, the first of which was altered: every range of a pack comes from that one.

    Packs that are asked for whole come from the other, since the first does not have the SHA-256 of its name.
    """

    def __init__(self, session: StoreSession) -> None:
        super().__init__(session)
        self.whole: list[ObjectName] = []
        self.altered = 0

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name.kind is not ObjectKind.PACK:
            return super().get(name, offset, length)
        if length is None and not offset:
            self.whole.append(name)
            return super().get(name)
        body = super().get(name, offset, length)
        self.altered += 1
        return bytes(byte ^ 1 if at % 97 == 0 else byte for at, byte in enumerate(body))


class Stuck(SessionAround):
    """Puts wait until the session is closed, as a node's do that has stopped answering."""

    def __init__(self, session: StoreSession, error: BaseException) -> None:
        super().__init__(session)
        self._closed = threading.Event()
        self._error = error
        self.waiting = threading.Event()

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:  # noqa: ARG002 - the protocol's
        self.waiting.set()
        self._closed.wait()
        raise self._error

    def close(self) -> None:
        self._closed.set()
        super().close()


class CallFault(StrEnum):
    """What becomes of the call that fails."""

    LOST = "the call is lost"
    REPLY_LOST = "its reply is lost"
    HALF = "half of it is done"


class FailingCall(SessionAround):
    """The call number `nth` raises `error`, before or after it took effect; `calls` counts all of them.

    `condemned` are the numbers of the calls that condemn.
    """

    def __init__(self, session: StoreSession, nth: int, fault: CallFault, error: BaseException) -> None:
        super().__init__(session)
        self.calls = 0
        self.condemned: list[int] = []
        self._nth = nth
        self._fault = fault
        self._error = error

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        with self._call():
            return super().put(name, body, packs)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        with self._call():
            return super().get(name, offset, length)

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        with self._call():
            return super().list(kind)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        with self._call():
            super().commit(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        with self._call():
            super().remove(name)

    def mark(self) -> str:
        with self._call():
            return super().mark()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        self.condemned.append(self.calls + 1)
        if self._fault is CallFault.HALF and self.calls + 1 == self._nth:
            super().condemn(names[: len(names) // 2])
        with self._call():
            return super().condemn(names)

    @contextmanager
    def _call(self) -> Iterator[None]:
        self.calls += 1
        fails = self.calls == self._nth
        if fails and self._fault is not CallFault.REPLY_LOST:
            raise self._error
        yield
        if fails:
            raise self._error
