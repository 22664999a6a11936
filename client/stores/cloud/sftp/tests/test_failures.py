"""What goes wrong with a server of SFTP: each is one clear line, nothing is sent to another, and no half is visible."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.sftp import SFTPClientHandler

from client.errors import ObjectMissing, SessionOver, StoreError, StoreFull
from client.stores.cloud import CloudStore
from client.stores.cloud.sftp import connection
from client.stores.cloud.sftp.failures import read_failure
from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.location import SftpLocation
from client.stores.cloud.sftp.tests.a_server import HASTY, PASSWORD, AServer
from client.stores.tests.contract import KEY, KEY_BODY, SNAPSHOT, a_pack
from clouds.calls import Patience
from clouds.testing.line import Line, a_line
from clouds.testing.ssh import SshServer
from domain.names import CONFIG, ObjectKind
from domain.sessions import Purpose

IMPATIENT = Patience(answer=0.3, total=0.1, new=0.1, first=0.001, longest=0.01)


@pytest.fixture
def line(a_free_port: Callable[[], int]) -> Iterator[Line]:
    with a_line(a_free_port) as line:
        yield line


def by(line: Line, server: SshServer, folder: Path) -> SftpLocation:
    """A vault in a folder, by way of a line that can be cut."""
    location = SftpLocation.of_address(f"{server.user}@{line.to(server.endpoint)}/{folder}")
    return location.known_by(HostKey("ssh-ed25519", server.host_key)).opened_by(server.key, "")


def refused(store: CloudStore, said: str) -> str:
    """What reading ends with."""
    with store.open(Purpose.READ) as session, pytest.raises(StoreError, match=said) as caught:
        session.get(CONFIG)
    assert not isinstance(caught.value, ObjectMissing)
    return str(caught.value)


@pytest.mark.parametrize("asks", [False, True])
def test_a_password_logs_in_where_it_is_asked_for_too(
    server: AServer, opened: Callable[..., CloudStore], asks: bool
) -> None:
    server.asks_for_password = asks
    name, body = a_pack()
    with opened(server.location()).open(Purpose.BACKUP) as session:
        assert session.put(name, body)
        assert session.get(name) == body


def test_a_wrong_password_is_told_and_not_tried_again(server: AServer, opened: Callable[..., CloudStore]) -> None:
    said = refused(opened(server.location("zqx-wrong")), "does not take this user with this password or key")
    assert "zqx-wrong" not in said
    assert server.passwords == ["zqx-wrong"]


def test_no_password_is_sent_to_a_server_with_another_host_key(
    server: AServer, opened: Callable[..., CloudStore]
) -> None:
    pinned = HostKey.of(asyncssh.generate_private_key("ssh-ed25519"))
    said = refused(opened(server.location().known_by(pinned)), "somebody may stand between")
    assert HostKey.of(server.host_keys[0]).fingerprint in said
    assert pinned.fingerprint in said
    assert server.passwords == []


def test_where_nobody_answers_is_given_up_soon(
    opened: Callable[..., CloudStore], a_free_port: Callable[[], int]
) -> None:
    pinned = HostKey("ssh-ed25519", "SHA256:x")
    location = SftpLocation.of_address(f"alice@127.0.0.1:{a_free_port()}/x").known_by(pinned).opened_by(None, PASSWORD)
    refused(opened(location), "nothing answers there: check the address and the port")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name is not known"),
        (TimeoutError(), "did not answer in time"),
        (ConnectionResetError(), "the connection broke"),
        (asyncssh.ChannelOpenError(1, "no"), "offers this user no SFTP"),
        (asyncssh.KeyExchangeFailed("no"), "none of the ciphers and keys"),
        (asyncssh.ProtocolError("Too many authentication failures"), "does not take this user"),
        (asyncssh.ProtocolError("strange\x1b[31m\nlines"), r"it ended the connection: strange\[31m$"),
        (asyncssh.SFTPFailure("Failure"), "it answers 'Failure'"),
        (asyncssh.SFTPWriteProtect("no"), "can only be read"),
    ],
)
def test_what_the_library_says_becomes_a_few_words(error: Exception, said: str) -> None:
    failure = read_failure(error)
    with pytest.raises(StoreError, match=said):
        raise StoreError(place="x", detail=failure.said)


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (asyncssh.DISC_TOO_MANY_CONNECTIONS, True),
        (asyncssh.DISC_SERVICE_NOT_AVAILABLE, True),
        (asyncssh.DISC_BY_APPLICATION, True),
        (asyncssh.DISC_HOST_NOT_ALLOWED_TO_CONNECT, False),
    ],
)
def test_a_server_that_takes_no_more_logins_is_asked_again(code: int, passes: bool) -> None:
    assert read_failure(asyncssh.DisconnectError(code, "not now")).passes is passes


def test_a_folder_in_which_the_user_may_not_write_is_told(server: AServer, opened: Callable[..., CloudStore]) -> None:
    server.refusing = {"mkdir"}
    store = opened(server.location())
    with store.open(Purpose.BACKUP) as session, pytest.raises(StoreError, match="look at the rights of the folder"):
        session.put(*a_pack())


@pytest.mark.needs("sshd")
def test_a_folder_that_cannot_be_is_told(
    ssh_server: SshServer, opened: Callable[..., CloudStore], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    location = SftpLocation.of_address(ssh_server.address(tmp_path / "file" / "vault"))
    location = location.known_by(HostKey("ssh-ed25519", ssh_server.host_key)).opened_by(ssh_server.key, "")
    with opened(location).open(Purpose.BACKUP) as session, pytest.raises(StoreError, match="not a directory"):
        session.put(*a_pack())


@pytest.mark.parametrize("has_room", [True, False])
def test_a_full_disk_is_told_from_another_failure(
    server: AServer, opened: Callable[..., CloudStore], has_room: bool
) -> None:
    with opened(server.location()).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        server.failing, server.has_room = {"write"}, has_room
        with pytest.raises(StoreError) as caught:
            session.put(*a_pack())
        assert isinstance(caught.value, StoreFull) is not has_room
        server.failing = set()
        assert list(session.list(ObjectKind.PACK)) == []
    assert [path for path in server.folder.rglob("*") if path.parent.name == "tmp"] == []


@pytest.mark.needs("sshd")
def test_a_server_that_dies_in_a_body_leaves_no_half_of_it(
    ssh_server: SshServer, sftp_location: SftpLocation, opened: Callable[..., CloudStore], line: Line
) -> None:
    name, body = a_pack(8 << 20)
    folder = Path(sftp_location.root)
    with opened(by(line, ssh_server, folder)).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        line.cut_after(3 << 20, None)
        with pytest.raises(StoreError, match=r"nothing answers there|the connection broke") as caught:
            session.put(name, body)
    assert "\n" not in str(caught.value)
    assert not (folder / name.path).exists()
    with opened(sftp_location).open(Purpose.BACKUP) as session:
        assert list(session.list(ObjectKind.PACK)) == []
        assert session.put(name, body)
        assert session.get(name) == body


@pytest.mark.needs("sshd")
def test_a_connection_that_was_lost_is_made_again(
    ssh_server: SshServer, sftp_location: SftpLocation, opened: Callable[..., CloudStore]
) -> None:
    name, body = a_pack(300_000)
    with opened(sftp_location, Patience(first=0.001)).open(Purpose.BACKUP) as session:
        assert session.put(name, body)
        ssh_server.cut()
        assert session.get(name) == body
        ssh_server.cut()
        assert [info.name for info in session.list(ObjectKind.PACK)] == [name]


def test_a_call_that_is_never_answered_ends(server: AServer, opened: Callable[..., CloudStore]) -> None:
    with opened(server.location()).open(Purpose.BACKUP) as session:
        session.initialise(KEY, KEY_BODY, b"config", b"seal")
    server.holding = {"open"}
    refused(opened(server.location(), IMPATIENT), "did not answer in time")


def test_a_list_that_stands_still_is_begun_again_over_another_login(
    server: AServer, opened: Callable[..., CloudStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(server.location()).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        session.put(SNAPSHOT, b"snapshot")
    stuck: list[SFTPClientHandler] = []
    read = SFTPClientHandler.readdir

    async def stands_still(handle: bytes) -> Any:  # noqa: ARG001 - asyncssh's
        await asyncio.Event().wait()

    async def readdir(handler: SFTPClientHandler, handle: bytes) -> Any:
        names, at_end = await read(handler, handle)
        if not stuck:  # neither what follows nor the end of the list is answered, but the connection lives
            stuck.append(handler)
            monkeypatch.setattr(handler, "readdir", stands_still)
            monkeypatch.setattr(handler, "close", stands_still)
            at_end = False
        return names, at_end

    store = opened(server.location(), Patience(answer=3, first=0.001))
    monkeypatch.setattr(SFTPClientHandler, "readdir", readdir)
    pool = ThreadPoolExecutor(1)
    listed = pool.submit(lambda: list(store.open(Purpose.READ).list(ObjectKind.SNAPSHOT)))
    assert [info.name for info in listed.result(500)] == [SNAPSHOT]
    assert len(stuck) == 1


def test_a_login_has_a_limit_of_its_own(opened: Callable[..., CloudStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_LOGIN_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        location = SftpLocation.of_address(f"alice@127.0.0.1:{silent.getsockname()[1]}/x")
        pinned = HostKey("ssh-ed25519", "SHA256:x")
        location = location.known_by(pinned).opened_by(None, PASSWORD)
        started = time.monotonic()
        refused(opened(location, replace(HASTY, answer=3600)), "did not answer in time")
    assert time.monotonic() - started < 600


def test_parts_of_a_body_that_was_given_up_are_not_told_of(
    server: AServer, opened: Callable[..., CloudStore], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(server.location()).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
    server.holding = {"write"}
    store = opened(server.location(), replace(IMPATIENT, slowest=1 << 30))
    with pytest.raises(StoreError, match="did not answer in time"), store.open(Purpose.BACKUP) as session:
        session.put(*a_pack(1 << 20))
    store.close()
    gc.collect()
    assert [message for message in caplog.messages if "ParallelIO" in message] == []


def test_a_server_that_says_nothing_is_given_up(opened: Callable[..., CloudStore]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        location = SftpLocation.of_address(f"alice@127.0.0.1:{silent.getsockname()[1]}/x")
        pinned = HostKey("ssh-ed25519", "SHA256:x")
        refused(opened(location.known_by(pinned).opened_by(None, PASSWORD), IMPATIENT), "did not answer in time")


def test_the_end_of_a_session_ends_its_calls(server: AServer, opened: Callable[..., CloudStore]) -> None:
    store = opened(server.location())
    with store.open(Purpose.BACKUP) as session:
        session.initialise(KEY, KEY_BODY, b"config", b"seal")
    server.holding = {"open"}
    session = store.open(Purpose.READ)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            session.get(CONFIG)
        except SessionOver as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert server.held.wait(60)
    session.close()
    thread.join()
    assert len(ended) == 1


@pytest.mark.needs("sshd")
def test_folders_on_other_disks_are_followed_and_a_missing_one_is_not_an_empty_one(
    sftp_store: CloudStore, tmp_path: Path
) -> None:
    folder = tmp_path / "served" / "vault"
    with sftp_store.open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        packs = dict(a_pack(10 + number) for number in range(5))
        for name, body in packs.items():
            session.put(name, body)
        for path in list((folder / "data").iterdir()):
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
        assert [info.name for info in session.list(ObjectKind.PACK)] == sorted(packs)
        (folder / "snapshots").rmdir()
        with pytest.raises(StoreError, match="no folder 'snapshots'"):
            session.list(ObjectKind.SNAPSHOT)


def test_a_folder_lies_where_a_login_lands_or_below_the_root(
    server: AServer, opened: Callable[..., CloudStore]
) -> None:
    with opened(server.location(folder="deep/vault")).open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        session.put(*a_pack())
        assert len(list(session.list(ObjectKind.PACK))) == 1
    with opened(server.location(folder="/deep/vault")).open(Purpose.READ) as session:  # a login lands in the root here
        assert session.get(CONFIG) == b"config"


@pytest.mark.needs("sshd")
def test_files_are_for_their_owner_alone_and_lie_as_restic_lays_them(sftp_store: CloudStore, tmp_path: Path) -> None:
    name, body = a_pack()
    with sftp_store.open(Purpose.BACKUP) as session:
        assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
        session.put(name, body)
    folder = tmp_path / "served" / "vault"
    assert (folder / "data" / name.id[:2] / name.id).read_bytes() == body
    assert (folder / "keys" / KEY.id).read_bytes() == KEY_BODY
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o700}
