"""Which host key is pinned, and that it is the one that is asked for ever after."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncssh
import pytest

from client.errors import StoreError, UsageError
from client.stores.cloud import CloudStore
from client.stores.cloud.sftp.host_key import HostKey, pinned
from client.stores.cloud.sftp.location import SftpLocation
from client.stores.cloud.sftp.tests.a_server import AServer, a_server
from clouds.calls import Patience

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AServer]:
    """With a key of each kind."""
    with a_server(tmp_path, KINDS) as server:
        yield server


@pytest.fixture
def location(server: AServer) -> SftpLocation:
    return SftpLocation.of_address(f"alice@127.0.0.1:{server.port}//vault")


def refuse(key: HostKey) -> None:
    raise UsageError(detail=f"not {key}")


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_the_key_that_is_given_is_pinned_whatever_others_there_are(
    server: AServer, location: SftpLocation, number: int
) -> None:
    wanted = HostKey.of(server.host_keys[number])
    found = pinned(location, wanted.fingerprint, [], refuse)
    assert (found.host_key, wanted.kind) == (wanted, KINDS[number])
    with closing(CloudStore(server.location().known_by(wanted))) as store:
        assert store.is_empty()
    assert len(server.passwords) == 1, "it was logged in"


def test_without_one_the_best_is_agreed_to(server: AServer, location: SftpLocation) -> None:
    asked: list[HostKey] = []
    best = HostKey.of(server.host_keys[0])
    assert pinned(location, None, [], asked.append).host_key == best
    assert asked == [best]
    with pytest.raises(UsageError, match=re.escape(str(best))):
        pinned(location, None, [], refuse)


def test_a_key_that_known_hosts_has_needs_no_agreement(server: AServer, location: SftpLocation, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    line = f"[127.0.0.1]:{server.port} {server.host_keys[1].export_public_key().decode()}"
    known.write_text(line)
    files = [tmp_path / "missing", known]
    assert pinned(location, None, files, refuse).host_key == HostKey.of(server.host_keys[1])
    known.write_text(f"@revoked {line}")
    with pytest.raises(UsageError, match="not ssh-ed25519"):
        pinned(location, None, files, refuse)
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    with pytest.raises(StoreError, match="not one that known_hosts has"):
        pinned(location, None, files, refuse)


@pytest.mark.parametrize("rest", [b" caf\xe9", b"\nhost", b"\n|1|x|y ssh-ed25519 AAAA", "\nh\xf6st # …".encode()])
def test_what_is_strange_in_known_hosts_makes_it_forget_no_key(
    server: AServer, location: SftpLocation, tmp_path: Path, rest: bytes
) -> None:
    known = tmp_path / "known_hosts"
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    known.write_bytes(f"[127.0.0.1]:{server.port} {other}".encode() + rest + b"\n")
    with pytest.raises(StoreError, match="not one that known_hosts has"):
        pinned(location, None, [known], refuse)


def test_a_known_hosts_that_cannot_be_read_is_told(server: AServer, location: SftpLocation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} cannot be read: give the host key with --host-key"):
        pinned(location, None, [tmp_path], refuse)
    given = HostKey.of(server.host_keys[0])
    assert pinned(location, given.fingerprint, [tmp_path], refuse).host_key == given


@pytest.mark.parametrize("host", ["127.0.0.1", "[127.0.0.1]:{port}", "*"])
def test_a_revoked_key_is_neither_offered_nor_taken(
    server: AServer, location: SftpLocation, tmp_path: Path, host: str
) -> None:
    known = tmp_path / "known_hosts"
    best = server.host_keys[0]
    known.write_text(f"@revoked {host.format(port=server.port)} {best.export_public_key().decode()}")
    for given in (None, best.get_fingerprint()):
        with pytest.raises(StoreError, match="which known_hosts has as revoked"):
            pinned(location, given, [known], refuse)


def test_no_key_of_the_user_is_read(
    server: AServer, location: SftpLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is damaged would be noticed."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----\n" for word in ("BEGIN", "END"))
    (tmp_path / "home" / ".ssh" / "id_ed25519").write_text(f"{begin}zqx\n{end}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = HostKey.of(server.host_keys[0])
    assert pinned(location, given.fingerprint, [], refuse).host_key == given


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_connection_that_breaks_is_no_other_key(server: AServer, number: int) -> None:
    server.turning_away = 1
    wanted = HostKey.of(server.host_keys[number])
    with closing(CloudStore(server.location().known_by(wanted), Patience(first=0.001))) as store:
        assert store.is_empty()
    assert (server.turning_away, len(server.passwords)) == (0, 1)
