"""A store whose bodies go at a limited rate, up and down.

Kept true: a pack or an index file begins when all that was counted before it would have gone at the timetable's rates,
whatever the number of threads and sessions; a lock, and whatever else is small, goes at once and counts, for one that
waits behind packs would grow stale; closing a session ends what waits in it. A body that goes, goes as fast as the line
takes it, for stores take each in one call (docs/decisions/limits.md).
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from client.errors import SessionOver
from client.stores.abc import Buffer, ObjectInfo, ObjectStore, Refusal, StoreSession
from domain.bandwidth import Timetable
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

_LARGE = frozenset((ObjectKind.PACK, ObjectKind.INDEX))


@dataclass(frozen=True, slots=True)
class Limits:
    """Each None is no limit."""

    upload: Timetable | None = None
    download: Timetable | None = None

    def __bool__(self) -> bool:
        return self.upload is not None or self.download is not None


@dataclass(frozen=True, slots=True)
class PaceClock:
    """`wall` is the local time, without a zone; `wait` waits for an event, so many seconds at most."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = datetime.now
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait


class Pace:
    """The bytes of one direction, one after the other on a line of the timetable's rates. Safe for several threads."""

    def __init__(self, timetable: Timetable | None, clock: PaceClock) -> None:
        self._timetable = timetable
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0.0  # when all that was counted has gone

    def count(self, size: int) -> float:
        """Put `size` bytes behind all others. Answers the seconds until it is their turn."""
        if self._timetable is None:
            return 0
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._free)
            moment = self._clock.wall() + timedelta(seconds=start - now)
            self._free = start + self._timetable.seconds_for(size, moment)
            return start - now


class LimitedStore:
    """`inner`, at limited rates."""

    def __init__(self, inner: ObjectStore, limits: Limits, clock: PaceClock | None = None) -> None:
        self.inner = inner
        self.clock = clock or PaceClock()
        self.upload = Pace(limits.upload, self.clock)
        self.download = Pace(limits.download, self.clock)

    @property
    def needs_locks(self) -> bool:
        return self.inner.needs_locks

    @property
    def place(self) -> str:
        return self.inner.place

    def allows(self, purpose: Purpose) -> bool:
        return self.inner.allows(purpose)

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "LimitedSession":
        return LimitedSession(self, self.inner.open(purpose, parent))

    def close(self) -> None:
        self.inner.close()


class LimitedSession:
    def __init__(self, store: LimitedStore, inner: StoreSession) -> None:
        self._store = store
        self._inner = inner
        self._over = threading.Event()

    @property
    def lost(self) -> frozenset[ObjectName]:
        return self._inner.lost

    @property
    def has_more_lost(self) -> bool:
        return self._inner.has_more_lost

    @property
    def sent_bytes(self) -> int:
        """As of NodeSession; no attribute where there is none."""
        sent: int = self._inner.sent_bytes  # type: ignore[attr-defined]
        return sent

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        self._store.upload.count(len(key_body) + len(config) + len(seal))
        return self._inner.initialise(key, key_body, config, seal)

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        seconds = self._store.upload.count(len(body))
        if name.kind in _LARGE:
            self._wait(seconds)
        return self._inner.put(name, body, packs)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        """What comes without a length that is asked for is counted when it has come."""
        seconds = self._store.download.count(length or 0)
        if name.kind in _LARGE:
            self._wait(seconds)
        body = self._inner.get(name, offset, length)
        if length is None:
            self._store.download.count(len(body))
        return body

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return self._inner.list(kind)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self._inner.reserve(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self._store.upload.count(len(body))
        self._inner.commit(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self._inner.remove(name)

    def mark(self) -> str:
        return self._inner.mark()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        return self._inner.condemn(names)

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self._store.upload.count(len(body))
        self._inner.replace_seal(body, replaced)

    def close(self) -> None:
        self._over.set()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self._store.clock.wait(self._over, seconds):
            raise SessionOver(place=self._store.place)
