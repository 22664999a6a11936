"""What a server of SFTP sends short or does not show yet: it is asked again, and told as what it is if that goes on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from client.errors import DamagedVault, ObjectMissing, StoreError, TruncatedObject
from client.stores.cloud import CloudStore, Remembered
from client.stores.cloud.sftp.tests.a_server import AServer
from client.stores.tests.contract import a_pack
from clouds.testing.clock import a_jumping_clock
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

BODY = b"snapshot"
SNAPSHOT = ObjectName.of(ObjectKind.SNAPSHOT, BODY)
FOR_GOOD = 1000
SIZE = 5 << 20  # which asyncssh asks its own server for in two parts
PARTS = [(0, None), (10, 100), (10, SIZE - 20), (10, None)]


@pytest.fixture
def store(server: AServer) -> Iterator[CloudStore]:
    with closing(CloudStore(server.location(), clock=a_jumping_clock())) as store:
        yield store


@pytest.mark.parametrize(("offset", "length"), PARTS)
def test_what_comes_short_is_read_again(server: AServer, store: CloudStore, offset: int, length: int | None) -> None:
    name, body = a_pack(SIZE)
    with store.open(Purpose.BACKUP) as session:
        session.put(name, body)
        server.empty_reads = 1
        assert session.get(name, offset, length) == body[offset : offset + length if length else None]
        assert not server.empty_reads


@pytest.mark.parametrize(("offset", "length"), PARTS)
def test_what_comes_short_for_good_is_damaged_and_it_is_said_how(
    server: AServer, store: CloudStore, offset: int, length: int | None
) -> None:
    name, body = a_pack(SIZE)
    with store.open(Purpose.BACKUP) as session:
        session.put(name, body)
        server.empty_reads = FOR_GOOD
        with pytest.raises(
            DamagedVault, match=r"sends fewer than the \d+ bytes from \d+ that it has: try again later"
        ) as caught:
            session.get(name, offset, length)
        assert not isinstance(caught.value, ObjectMissing | TruncatedObject)


def test_a_list_that_lacks_what_was_just_stored_is_asked_for_again(server: AServer, store: CloudStore) -> None:
    with store.open(Purpose.BACKUP) as session:
        session.commit(SNAPSHOT, BODY)
        server.old_lists = 3
        assert [info.name for info in session.list(ObjectKind.SNAPSHOT)] == [SNAPSHOT]
        assert not server.old_lists


def test_by_a_list_that_lacks_what_this_device_stored_earlier_nothing_is_removed(
    server: AServer, store: CloudStore, tmp_path: Path
) -> None:
    store.remembered = Remembered(tmp_path / "remembered")
    with store.open(Purpose.BACKUP) as session:
        session.commit(SNAPSHOT, BODY)
    with store.open(Purpose.RETENTION) as session:
        server.old_lists = FOR_GOOD
        with pytest.raises(StoreError, match="which this device stored"):
            session.list(ObjectKind.SNAPSHOT)
        server.old_lists = 0
        assert [info.name for info in session.list(ObjectKind.SNAPSHOT)] == [SNAPSHOT]
