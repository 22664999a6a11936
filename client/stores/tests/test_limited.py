"""A limited store: a clock that jumps tells how long what waits would have waited."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from client.errors import SessionOver
from client.stores.limited import LimitedSession, LimitedStore, Limits, Line, PaceClock
from client.stores.tests.contract import StoreContract, a_pack
from client.stores.tests.memory import MemorySession, MemoryStore
from client.vault.locks import LockLost, vault_lock
from client.vault.repository import create_vault
from domain.bandwidth import Timetable
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

M = 1 << 20
MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001 - the wall's


class Jumping:
    """A clock on which waiting takes no time, and moves it on."""

    def __init__(self, start: datetime = MONDAY) -> None:
        self.start = start
        self.now = 0.0
        self.waits: list[float] = []
        self.clock = PaceClock(lambda: self.now, lambda: self.start + timedelta(seconds=self.now), self._wait)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return event.is_set()


def a_store(jumping: Jumping, *, upload: str = "off", download: str = "off") -> LimitedStore:
    limits = Limits(Timetable.parse(upload), Timetable.parse(download))
    return LimitedStore(MemoryStore(), Line(limits, jumping.clock))


class TestLimitedStore(StoreContract):
    @pytest.fixture
    def store(self) -> LimitedStore:
        return a_store(Jumping(), upload="1M", download="08:00,1M 12:00,off")


def test_packs_go_up_one_after_the_other_at_the_rate() -> None:
    jumping = Jumping()
    with a_store(jumping, upload="1M").open(Purpose.BACKUP) as session:
        for _ in range(4):
            session.put(*a_pack(2 * M))
        assert jumping.waits == [2, 2, 2], "the first one has nothing before it"
        jumping.now += 1
        session.put(*a_pack(2 * M))
        assert jumping.waits[3:] == [1], "a second of the two has passed by itself"
        jumping.now += 3600
        session.put(*a_pack(2 * M))
        session.put(*a_pack(2 * M))
        assert jumping.waits[4:] == [2], "an hour in which nothing went saves nothing up"


def test_the_timetable_is_that_of_the_clock_on_the_wall() -> None:
    jumping = Jumping(MONDAY + timedelta(hours=17, minutes=59, seconds=59))
    with a_store(jumping, upload="08:00,1M 18:00,off").open(Purpose.BACKUP) as session:
        for _ in range(6):
            session.put(*a_pack(2 * M))
    assert jumping.waits == [1], "from six on there is no limit, for what was begun before as well"


def test_what_comes_down_is_counted_whether_its_length_is_known_or_not() -> None:
    jumping = Jumping()
    name, body = a_pack(2 * M)
    with a_store(jumping, download="1M").open(Purpose.BACKUP) as session:
        session.put(name, body)
        assert session.get(name) == body
        assert session.get(name, 0, M) == body[:M]
        assert session.get(name, M) == body[M:]
        assert jumping.waits == [2, 1]
        session.get(name, 0, 10)
        assert jumping.waits[2:] == [1]


def test_up_and_down_do_not_wait_for_each_other() -> None:
    jumping = Jumping()
    name, body = a_pack(2 * M)
    with a_store(jumping, upload="1M", download="1M").open(Purpose.BACKUP) as session:
        session.put(name, body)
        session.get(name)
        assert jumping.waits == []


def test_a_lock_waits_for_no_pack_and_counts() -> None:
    jumping = Jumping()
    lock = b"lock" * (M // 4)
    with a_store(jumping, upload="1M").open(Purpose.BACKUP) as session:
        session.put(*a_pack(6 * M))
        session.put(ObjectName.of(ObjectKind.LOCK, lock), lock)
        assert jumping.waits == []
        session.put(*a_pack(10))
        assert jumping.waits == [7]


def test_an_index_file_that_waits_longer_than_the_lock_lasts_is_not_stored() -> None:
    jumping = Jumping()
    store = LimitedStore(MemoryStore(needs_locks=True), Line(Limits(Timetable.parse("1k")), jumping.clock))
    index = b"index"
    with store.open(Purpose.BACKUP) as session:
        vault = create_vault(session, "password")
        assert vault is not None
        with vault_lock(vault, needed=True, now_ns=lambda: int(jumping.now * 10**9)):
            session.put(*a_pack(2 * M))
            jumping.waits.clear()
            with pytest.raises(LockLost):
                session.put(ObjectName.of(ObjectKind.INDEX, index), index)
            assert jumping.waits == [pytest.approx(2 * M >> 10, abs=10)]
            assert list(session.list(ObjectKind.INDEX)) == []


def test_the_threads_sessions_and_stores_of_a_device_share_its_line() -> None:
    waits: list[float] = []
    ready = threading.Barrier(6)

    def count(_: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        return False

    line = Line(Limits(Timetable.parse("1M")), PaceClock(monotonic=lambda: 0, wait=count))
    stores = [LimitedStore(MemoryStore(), line) for _ in range(2)]
    sessions = [stores[number % 2].open(Purpose.BACKUP) for number in range(3)]

    def put(session_number: int) -> None:
        ready.wait()
        sessions[session_number].put(*a_pack(M))

    threads = [threading.Thread(target=put, args=(number % 3,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [1, 2, 3, 4, 5]


def the_node_ends(session: LimitedSession) -> None:
    session.inner.close()
    with pytest.raises(SessionOver):
        session.put(ObjectName.of(ObjectKind.LOCK, b""), b"")


@pytest.mark.parametrize("end", [LimitedSession.close, the_node_ends])
def test_the_end_of_a_session_ends_what_waits_in_it(end: Callable[[LimitedSession], None]) -> None:
    began = threading.Event()
    woken: list[bool] = []

    def wait(event: threading.Event, _: float) -> bool:
        began.set()
        woken.append(event.wait(60))
        return woken[-1]

    jumping = Jumping()
    clock = PaceClock(jumping.clock.monotonic, jumping.clock.wall, wait)
    store = LimitedStore(MemoryStore(), Line(Limits(Timetable.parse("1k")), clock))
    session = store.open(Purpose.BACKUP)
    session.put(*a_pack(M))
    ended: list[bool] = []

    def put() -> None:
        try:
            session.put(*a_pack(M))
        except SessionOver:
            ended.append(True)

    thread = threading.Thread(target=put)
    thread.start()
    assert began.wait(60)
    end(session)
    thread.join()
    assert ended == [True]
    assert woken == [True], "it did not wait for its turn"
    assert store.line.upload.count(0).wait == M >> 10, "what did not go is not counted"


def test_a_counter_of_its_own_is_passed_on_and_none_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_store(Jumping()).open(Purpose.BACKUP)
    assert not hasattr(session, "sent_bytes")
    monkeypatch.setattr(MemorySession, "sent_bytes", 12, raising=False)
    assert session.sent_bytes == 12
