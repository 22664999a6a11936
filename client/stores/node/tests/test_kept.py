from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from client.errors import ObjectMissing
from client.stores.abc import ObjectStore
from client.stores.node.kept import KeepingStore
from client.stores.tests.contract import CHANGED, KEY, KEY_BODY, SNAPSHOT, StoreContract, initialised
from client.stores.tests.memory import MemorySession, MemoryStore
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


class CountingStore(MemoryStore):
    """Counts what is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.got: Counter[ObjectName] = Counter()

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> MemorySession:
        session = super().open(purpose, parent)
        fetch = session.get

        def get(name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            self.got[name] += 1
            return fetch(name, offset, length)

        session.get = get  # type: ignore[method-assign]
        return session


@pytest.fixture
def inner() -> CountingStore:
    return CountingStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(inner: CountingStore, folder: Path) -> KeepingStore:
    return KeepingStore(cast("Any", inner), folder)


class TestKeepingStore(StoreContract):
    @pytest.fixture
    def store(self, store: ObjectStore) -> ObjectStore:
        return store


def fill(inner: CountingStore) -> None:
    with inner.open(Purpose.BACKUP) as session:
        initialised(session)
        session.commit(SNAPSHOT, b"snapshot")


def read(store: KeepingStore) -> list[bytes]:
    """The snapshots and the keys, as every command reads them."""
    with store.open(Purpose.READ) as session:
        return [session.get(info.name) for kind in (ObjectKind.SNAPSHOT, ObjectKind.KEY) for info in session.list(kind)]


def test_what_was_read_once_is_not_fetched_again(inner: CountingStore, store: KeepingStore) -> None:
    fill(inner)
    assert read(store) == read(store) == [b"snapshot", KEY_BODY]
    assert inner.got == {SNAPSHOT: 1, KEY: 1}


def test_what_this_device_committed_is_not_fetched(inner: CountingStore, store: KeepingStore) -> None:
    with store.open(Purpose.BACKUP) as session:
        initialised(session)
        session.commit(SNAPSHOT, b"snapshot")
    assert read(store) == [b"snapshot", KEY_BODY]
    assert inner.got == {KEY: 1}


def test_whether_an_object_exists_is_asked_in_each_session(inner: CountingStore, store: KeepingStore) -> None:
    fill(inner)
    read(store)
    with store.open(Purpose.READ) as session:
        session.get(SNAPSHOT)
    assert inner.got[SNAPSHOT] == 2
    with inner.open(Purpose.RETENTION) as session:
        session.remove(SNAPSHOT)
    with store.open(Purpose.READ) as later, pytest.raises(ObjectMissing):
        later.get(SNAPSHOT)


def test_a_parent_that_is_pinned_exists(inner: CountingStore, store: KeepingStore) -> None:
    fill(inner)
    read(store)
    with store.open(Purpose.BACKUP, SNAPSHOT) as session:
        assert session.get(SNAPSHOT) == b"snapshot"
    assert inner.got[SNAPSHOT] == 1


def test_what_is_removed_from_the_vault_is_kept_no_longer(
    inner: CountingStore, store: KeepingStore, folder: Path
) -> None:
    fill(inner)
    with inner.open(Purpose.BACKUP) as session:
        session.commit(CHANGED, b"changed")
    read(store)
    (folder / "snapshots" / f"{SNAPSHOT.id}.1234").write_bytes(b"what an interrupted write has left")
    with inner.open(Purpose.RETENTION) as session:
        session.remove(SNAPSHOT)
    read(store)
    assert [path.name for path in (folder / "snapshots").iterdir()] == [CHANGED.id]


@pytest.mark.parametrize("rubbish", [b"", b"snapshoT"])
def test_a_kept_copy_that_is_not_whole_is_fetched(
    inner: CountingStore, store: KeepingStore, folder: Path, rubbish: bytes
) -> None:
    fill(inner)
    read(store)
    (folder / "snapshots" / SNAPSHOT.id).write_bytes(rubbish)
    assert read(store) == read(store) == [b"snapshot", KEY_BODY]
    assert inner.got[SNAPSHOT] == 2


def test_where_nothing_can_be_kept_all_is_fetched(inner: CountingStore, store: KeepingStore, folder: Path) -> None:
    fill(inner)
    folder.write_bytes(b"a file in place of the folder")
    assert read(store) == read(store) == [b"snapshot", KEY_BODY]
    assert inner.got[SNAPSHOT] == 2


def test_kept_copies_are_closed_to_others(inner: CountingStore, store: KeepingStore, folder: Path) -> None:
    fill(inner)
    read(store)
    modes = {path.stat().st_mode & 0o777 for path in (folder, folder / "keys", folder / "keys" / KEY.id)}
    assert modes == {0o700, 0o600}
