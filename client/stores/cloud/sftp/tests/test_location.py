import pytest

from client.errors import UsageError
from client.stores.cloud.location import Location
from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.location import SftpLocation


@pytest.mark.parametrize(
    ("address", "place", "root"),
    [
        ("me@host/backup", "sftp://me@host/backup", "backup"),
        ("me@host//srv/backup/", "sftp://me@host//srv/backup", "/srv/backup"),
        ("sftp://me@host:22/a/b", "sftp://me@host/a/b", "a/b"),
        ("me@HOST:2222/a", "sftp://me@host:2222/a", "a"),
        ("me@[::1]:2222//a", "sftp://me@[::1]:2222//a", "/a"),
        ("me@example.org@host/a b", "sftp://me%40example.org@host/a%20b", "a b"),
        ("me@host/a%20b@c", "sftp://me@host/a%20b%40c", "a b@c"),
    ],
)
def test_an_address_is_told_as_restic_takes_it(address: str, place: str, root: str) -> None:
    location = SftpLocation.of_address(address)
    assert (location.place, location.root) == (place, root)
    assert SftpLocation.of_address(place) == location


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("host/zqx-secret", "say USER@HOST"),
        ("@host/zqx-secret", "say USER@HOST"),
        ("me@/zqx-secret", "say USER@HOST"),
        ("me@host:port/zqx-secret", "say USER@HOST"),
        ("me@ho st/zqx-secret", "say USER@HOST"),
        ("me@a..b/zqx-secret", "say USER@HOST"),
        ("me@.host/zqx-secret", "say USER@HOST"),
        (f"me@{'a' * 64}.example/zqx-secret", "say USER@HOST"),
        ("me@host:0/zqx-secret", "say USER@HOST"),
        ("me@host?x=1/zqx-secret", "say USER@HOST"),
        ("me@host#x/zqx-secret", "say USER@HOST"),
        ("me@host:/zqx-secret", "as scp has it"),
        ("sftp:me@host:/zqx-secret", "as scp has it"),
        ("sftp:me@host/zqx-secret", "as scp has it"),
        ("me:zqx-secret@host/x", "holds no password"),
        ("sftp:me:zqx-secret@host/x", "holds no password"),
        ("me@host", "names no folder"),
        ("me@host//", "names no folder"),
        ("me@host/~/zqx-secret", "no folder of a server"),
        ("me@host/../zqx-secret", "no folder of a server"),
        ("me@host/zqx-secret%0a", "no folder of a server"),
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        SftpLocation.of_address(address)
    assert "zqx-secret" not in str(caught.value)


def test_a_seal_has_all_of_it_and_what_is_shown_no_secret() -> None:
    pinned = HostKey("ssh-ed25519", "SHA256:abc")
    location = SftpLocation.of_address("me@host/a").known_by(pinned).opened_by(None, "zqx-secret")
    again = Location.from_fields(location.fields)
    assert again == location
    assert isinstance(again, SftpLocation)
    assert again.host_key == pinned
    assert "zqx-secret" not in f"{again!r}{again.place}"
    assert again.below("x").place == "sftp://me@host/a/x"
    with pytest.raises(UsageError, match="password is empty"):
        location.opened_by(None, "")
