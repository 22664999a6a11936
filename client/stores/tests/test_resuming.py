"""Reading goes on in a new session where a node has ended one, and takes nothing with it."""

from dataclasses import dataclass, field

import pytest

from client.errors import NotSupported, ObjectMissing, SessionOver, SnapshotRemoved, StoreError
from client.stores.resuming import ResumingSession
from client.stores.tests.contract import a_pack
from client.stores.tests.memory import MemorySession, MemoryStore
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

SNAPSHOT = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")


@dataclass
class EndingStore(MemoryStore):
    """Its sessions end when they have answered so many calls; the last for ever."""

    calls: list[int] = field(default_factory=list)
    opened: list["EndingSession"] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.objects[SNAPSHOT] = b"snapshot"

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "EndingSession":
        super().open(purpose, parent)
        self.opened.append(EndingSession(self, purpose))
        return self.opened[-1]


class EndingSession(MemorySession):
    def __init__(self, store: EndingStore, purpose: Purpose) -> None:
        super().__init__(store, purpose)
        self.left = store.calls.pop(0) if store.calls else 1 << 30

    def _check(self) -> None:
        super()._check()
        self.left -= 1
        if self.left < 0:
            raise SessionOver(place=self.store.place)


def test_what_is_read_is_the_same_however_often_sessions_end() -> None:
    store = EndingStore(calls=[1, 2, 1, 3])
    packs = dict(a_pack() for _ in range(20))
    store.objects |= packs
    with ResumingSession(store) as session:
        for name, body in packs.items():
            assert session.get(name) == body
            assert session.get(name, 10, 5) == body[10:15]
        assert [info.name for info in session.list(ObjectKind.PACK)] == sorted(packs)
        assert session.number == len(store.opened) == 5
    assert all(opened.over for opened in store.opened)


def test_a_snapshot_that_was_removed_meanwhile_ends_the_work() -> None:
    name, body = a_pack()
    store = EndingStore(calls=[1])
    store.objects[name] = body
    with ResumingSession(store) as session:
        session.stay_with(SNAPSHOT)
        assert session.get(name) == body
        del store.objects[SNAPSHOT]
        with pytest.raises(SnapshotRemoved):
            session.get(name)


def test_a_store_that_ends_every_session_at_once_is_an_error_in_the_end() -> None:
    store = EndingStore(calls=[0] * 50)
    with ResumingSession(store) as session, pytest.raises(StoreError, match="ends every session"):
        session.get(SNAPSHOT)
    assert len(store.opened) < 10


def test_a_closed_session_opens_no_other() -> None:
    store = EndingStore()
    session = ResumingSession(store)
    session.close()
    with pytest.raises(SessionOver):
        session.get(SNAPSHOT)
    assert len(store.opened) == 1


def test_other_errors_are_as_they_are() -> None:
    with ResumingSession(EndingStore()) as session, pytest.raises(ObjectMissing):
        session.get(a_pack()[0])


def test_nothing_is_written_where_sessions_may_end() -> None:
    store = EndingStore()
    name, body = a_pack()
    with ResumingSession(store) as session:
        for write in (
            lambda: session.put(name, body),
            lambda: session.remove(SNAPSHOT),
            lambda: session.commit(SNAPSHOT, b"snapshot"),
            lambda: session.reserve([name]),
            lambda: session.initialise(name, body, b"", b""),
        ):
            with pytest.raises(NotSupported):
                write()
    assert list(store.objects) == [SNAPSHOT]
