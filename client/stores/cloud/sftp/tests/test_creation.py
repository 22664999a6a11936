"""A vault is created once, and whole, whatever the server lacks and wherever a call breaks off."""

import threading
from collections.abc import Callable

import pytest

from client.errors import StoreFull
from client.stores.cloud import CloudStore
from client.stores.cloud.sftp.location import SftpLocation
from client.stores.cloud.sftp.tests.a_server import AServer
from client.stores.tests.contract import KEY, KEY_BODY, a_pack
from clouds.calls import Patience
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


def created_at_once(stores: list[CloudStore]) -> list[bytes]:
    """Who of those that create a vault at the same moment has done it."""
    won: list[bytes] = []
    ready = threading.Barrier(len(stores))

    def use(number: int) -> None:
        body = b"key %d" % number
        with stores[number].open(Purpose.BACKUP) as session:
            ready.wait(60)
            if session.initialise(ObjectName.of(ObjectKind.KEY, body), body, b"config %d" % number, b"%d" % number):
                won.append(b"%d" % number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.needs("sshd")
def test_of_devices_that_create_a_vault_at_once_one_does(
    sftp_location: SftpLocation, opened: Callable[..., CloudStore]
) -> None:
    stores = [opened(sftp_location) for _ in range(4)]
    (winner,) = created_at_once(stores)
    with stores[0].open(Purpose.READ) as session:
        assert (session.get(CONFIG), session.get(SEAL)) == (b"config " + winner, winner)
        assert [session.get(info.name) for info in session.list(ObjectKind.KEY)] == [b"key " + winner]


@pytest.mark.parametrize("knows_links", [True, False])
def test_a_server_without_extensions_holds_a_vault_that_is_created_once(
    server: AServer, opened: Callable[..., CloudStore], knows_links: bool
) -> None:
    server.lacking = {"posix_rename", "fsync", "statvfs"} | (set() if knows_links else {"link"})
    server.refusing = {"link"} if knows_links else set()  # as a file system that has none does
    (winner,) = created_at_once([opened(server.location()) for _ in range(4)])
    with opened(server.location()).open(Purpose.RETENTION) as session:
        assert session.get(CONFIG) == b"config " + winner
        session.replace_seal(b"another", winner)
        assert session.get(SEAL) == b"another"
        name, body = a_pack()
        assert session.put(name, body)
        assert session.get(name) == body


def test_a_seal_that_was_renamed_stays_when_the_answer_is_lost(
    server: AServer, opened: Callable[..., CloudStore]
) -> None:
    server.lacking = {"posix_rename"}
    with opened(server.location(), Patience(first=0.001)).open(Purpose.RETENTION) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        server.losing = {"rename": 1}
        session.replace_seal(b"another", b"seal")
        assert session.get(SEAL) == b"another"
    assert server.losing == {}


# Of what is written where there are no links: the key, the seal beside its place and in it, and `config` likewise.
_SEAL_IN_PLACE, _CONFIG_IN_PLACE = 3, 5


@pytest.mark.parametrize("number", [_SEAL_IN_PLACE, _CONFIG_IN_PLACE])
def test_a_call_that_broke_off_in_what_it_creates_is_repeated(
    server: AServer, opened: Callable[..., CloudStore], number: int
) -> None:
    server.lacking = {"link"}
    server.breaking = {"write": number}
    with opened(server.location(), Patience(first=0.001)).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        assert (session.get(CONFIG), session.get(SEAL)) == (b"config", b"seal")
    assert server.breaking == {}


def test_a_config_for_which_there_is_no_room_is_taken_away(server: AServer, opened: Callable[..., CloudStore]) -> None:
    server.lacking = {"link"}
    with opened(server.location()).open(Purpose.BACKUP) as session:
        server.failing_at, server.has_room = {"write": _CONFIG_IN_PLACE}, False
        with pytest.raises(StoreFull):
            session.initialise(KEY, KEY_BODY, b"config", b"seal")
        server.has_room = True
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        assert session.get(CONFIG) == b"config"
