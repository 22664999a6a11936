"""A store whose bodies go at a limited rate, up and down.

Kept true: a pack or an index file begins when all that was counted before it would have gone at the rates of the
timetable, whatever the number of threads, sessions and stores; a lock, and whatever else is small, goes at once and
counts, for one that waits behind packs would grow stale. After its wait a body goes only if the lock of the vault still
holds. The end of a session ends what waits in it, and that counts no more. A body that goes, goes as fast as the line
takes it, for stores take each in one call (docs/decisions/limits.md).
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import NamedTuple, Self

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


class Turn(NamedTuple):
    """In seconds: how long until it comes, and how long it lasts."""

    wait: float
    lasts: float


class Pace:
    """The bytes of one direction, one after the other on a line of the timetable's rates. Safe for several threads."""

    def __init__(self, timetable: Timetable | None, clock: PaceClock) -> None:
        self._timetable = timetable
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0.0  # when all that was counted has gone

    def count(self, size: int) -> Turn:
        """Put `size` bytes behind all others."""
        if self._timetable is None:
            return Turn(0, 0)
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._free)
            moment = self._clock.wall() + timedelta(seconds=start - now)
            lasts = self._timetable.seconds_for(size, moment)
            self._free = start + lasts
            return Turn(start - now, lasts)

    def give_back(self, turn: Turn) -> None:
        """Count no more what has not gone."""
        with self._lock:
            self._free -= turn.lasts


class Line:
    """A device's line, which all stores at its other end share."""

    def __init__(self, limits: Limits, clock: PaceClock | None = None) -> None:
        self.clock = clock or PaceClock()
        self.upload = Pace(limits.upload, self.clock)
        self.download = Pace(limits.download, self.clock)


class LimitedStore:
    """`inner`, at the rates of a line."""

    def __init__(self, inner: ObjectStore, line: Line) -> None:
        self.inner = inner
        self.line = line

    @property
    def needs_locks(self) -> bool:
        return self.inner.needs_locks

    @property
    def place(self) -> str:
        return self.inner.place

    def allows(self, purpose: Purpose) -> bool:
        return self.inner.allows(purpose)

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "LimitedSession":
        return LimitedSession(self.place, self.line, self.inner.open(purpose, parent))

    def close(self) -> None:
        self.inner.close()


class LimitedSession:
    def __init__(self, place: str, line: Line, inner: StoreSession) -> None:
        self._place = place
        self._line = line
        self.inner = inner
        self._over = threading.Event()
        self.ensure_locked: Callable[[], None] | None = None

    @property
    def lost(self) -> frozenset[ObjectName]:
        return self.inner.lost

    @property
    def has_more_lost(self) -> bool:
        return self.inner.has_more_lost

    @property
    def sent_bytes(self) -> int:
        """As of NodeSession; no attribute where there is none."""
        sent: int = self.inner.sent_bytes  # type: ignore[attr-defined]
        return sent

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        self._line.upload.count(len(key_body) + len(config) + len(seal))
        return self.inner.initialise(key, key_body, config, seal)

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        with self._turn(self._line.upload, name, len(body)):
            if name.kind in _LARGE and self.ensure_locked is not None:
                self.ensure_locked()
            return self.inner.put(name, body, packs)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        """What comes without a length that is asked for is counted when it has come."""
        with self._turn(self._line.download, name, length or 0):
            body = self.inner.get(name, offset, length)
        if length is None:
            self._line.download.count(len(body))
        return body

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        return self.inner.list(kind)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self.inner.reserve(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self._line.upload.count(len(body))
        self.inner.commit(snapshot, body)

    def remove(self, name: ObjectName) -> None:
        self.inner.remove(name)

    def mark(self) -> str:
        return self.inner.mark()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        return self.inner.condemn(names)

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self._line.upload.count(len(body))
        self.inner.replace_seal(body, replaced)

    def close(self) -> None:
        self._over.set()
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _turn(self, pace: Pace, name: ObjectName, size: int) -> Iterator[None]:
        """Wait until a body may go."""
        turn = pace.count(size)
        if name.kind in _LARGE and turn.wait > 0 and self._line.clock.wait(self._over, turn.wait):
            pace.give_back(turn)
            raise SessionOver(place=self._place)
        try:
            yield
        except SessionOver:
            self._over.set()  # whoever waits for a turn would learn it only then
            raise


def ask_before_bodies(session: StoreSession, ensure_locked: Callable[[], None] | None) -> None:
    """Have `ensure_locked`, which raises, asked when a pack or an index file of a limited session has waited.

    A lock that was held before a wait may be lost after it: a wait is as long as the limit makes it.
    """
    if isinstance(session, LimitedSession):
        session.ensure_locked = ensure_locked
