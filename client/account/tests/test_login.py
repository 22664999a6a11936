from dataclasses import replace
from pathlib import Path

import pytest

from client.account import login as logins
from client.account.device import Device
from client.account.device_login import account_key
from client.account.passwords import Stretching
from client.account.tests.an_auth import PASSWORD, Office
from client.account.vaults import Vaults
from client.errors import (
    BadRecoveryCode,
    BrokenSeal,
    NotLoggedIn,
    ServerUnreachable,
    UnsafeServer,
    UntrustedServer,
    UsageError,
    WeakPassword,
    WrongPassword,
)
from client.rpc import read_ca, split_endpoint
from client.tests.servers import patient_probes
from client.tests.tls import an_authority

NEW_PASSWORD = "another-harbour-at-dawn"


def test_a_login_brings_the_account_key_home_and_sends_neither_password_nor_key(office: Office) -> None:
    home = office.logged_in()
    assert account_key(home.account()) == office.auth.account_key
    for sent in office.auth.seen:
        assert PASSWORD.encode() not in sent
        assert office.auth.account_key not in sent
    kept = b"".join(path.read_bytes() for path in home.folder.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
    assert office.auth.account_key.hex().encode() not in kept


def test_a_wrong_password_leaves_nothing_behind(office: Office) -> None:
    home = office.home()
    with pytest.raises(WrongPassword):
        logins.login(home, office.server, "alice", "not-the-password")
    with pytest.raises(NotLoggedIn):
        home.account()


def test_logging_in_again_is_the_same_device_and_another_user_is_another(office: Office) -> None:
    first = office.logged_in().account().device_id
    assert office.logged_in().account().device_id == first
    assert office.logged_in("other home").account().device_id != first


def test_a_revoked_device_comes_back_as_a_new_one(office: Office) -> None:
    first = office.logged_in().account().device_id
    office.auth.revoked.add(str(first))
    assert office.logged_in().account().device_id != first


def test_a_wrong_ca_and_a_wrong_address_are_told_apart(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient_probes(monkeypatch)
    other = tmp_path / "other.pem"
    other.write_bytes(an_authority("another CA").ca)
    with pytest.raises(UntrustedServer):
        logins.login(office.home(), replace(office.server, ca=other), "alice", PASSWORD)
    with pytest.raises(ServerUnreachable, match="connection refused"):
        logins.login(office.home(), replace(office.server, address="127.0.0.1:1"), "alice", PASSWORD)
    assert office.auth.seen == []


@pytest.mark.parametrize("address", ["", "server", "server:", ":8060", "server:port", "server:0", "server:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        split_endpoint(address)


def test_what_is_no_ca_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_ca(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError, match="no certificate"):
        read_ca(tmp_path / "file")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UsageError, match="no certificate"):
        read_ca(tmp_path / "empty")


def test_a_server_that_weakens_the_stretching_gets_nothing(office: Office) -> None:
    office.auth.credentials.kdf.CopyFrom(Stretching(bytes(16), memory_kib=8, iterations=1, lanes=1).to_message())
    with pytest.raises(UnsafeServer):
        office.logged_in()
    assert "Login" not in office.auth.calls


def test_a_server_that_hands_out_another_key_is_noticed(office: Office) -> None:
    office.auth.credentials.sealed_key = office.auth.credentials.sealed_key[:-1] + b"x"
    with pytest.raises(BrokenSeal):
        office.logged_in()


def test_a_session_that_is_gone_is_renewed_by_the_device_s_key(office: Office) -> None:
    home = office.logged_in()
    office.auth.sessions.clear()
    with Device(home) as device:
        assert Vaults(device).all() == []
    assert office.auth.calls.count("DeviceLogin") == 1
    assert home.session() in office.auth.sessions
    with Device(home) as device:
        Vaults(device).all()
    assert office.auth.calls.count("DeviceLogin") == 1


def test_a_session_that_another_process_renewed_is_taken(office: Office) -> None:
    home = office.logged_in()
    with Device(home) as device:
        Vaults(device).all()
        office.auth.sessions.clear()
        office.auth.sessions["new"] = device.id
        home.keep_session("new")
        Vaults(device).all()
    assert "DeviceLogin" not in office.auth.calls


def test_a_revoked_device_is_not_logged_in(office: Office) -> None:
    home = office.logged_in()
    office.auth.sessions.clear()
    office.auth.revoked.add(str(home.account().device_id))
    with Device(home) as device, pytest.raises(NotLoggedIn):
        Vaults(device).all()


def test_a_logout_forgets_the_key_and_keeps_the_device(office: Office) -> None:
    home = office.logged_in()
    device = home.account().device_id
    assert logins.logout(home, remove_device=False) is None
    with pytest.raises(NotLoggedIn):
        home.account()
    known = home.known_account()
    assert known is not None
    assert (known.sealing_key, known.sealed_account_key) == (b"", b"")
    assert office.auth.sessions == {}
    assert office.logged_in().account().device_id == device


def test_a_logout_that_cannot_be_told_is_a_logout(office: Office) -> None:
    home = office.logged_in()
    office.auth.is_down = True
    assert logins.logout(home, remove_device=False) is not None
    with pytest.raises(NotLoggedIn):
        home.account()


def test_a_password_change_leaves_other_devices_working(office: Office) -> None:
    first, second = office.logged_in("first"), office.logged_in("second")
    logins.change_password(first, PASSWORD, NEW_PASSWORD)
    office.auth.sessions.clear()
    with Device(second) as device:
        assert Vaults(device).all() == []
        assert device.sealer is not None
    with pytest.raises(WrongPassword):
        office.logged_in("third")
    assert account_key(office.logged_in("third", NEW_PASSWORD).account()) == office.auth.account_key


def test_a_password_change_needs_the_present_password_and_a_strong_new_one(office: Office) -> None:
    home = office.logged_in()
    with pytest.raises(WrongPassword):
        logins.change_password(home, "not-the-password", NEW_PASSWORD)
    with pytest.raises(WeakPassword):
        logins.change_password(home, PASSWORD, "password1")
    office.logged_in("again")


def test_a_recovery_code_opens_the_account_without_the_password(office: Office) -> None:
    code = logins.set_recovery_code(office.logged_in(), PASSWORD)
    with pytest.raises(WeakPassword):
        logins.recover(office.server, "alice", code, "password1")
    logins.recover(office.server, "alice", code, NEW_PASSWORD)
    assert account_key(office.logged_in("new", NEW_PASSWORD).account()) == office.auth.account_key


def test_another_recovery_code_opens_nothing(office: Office) -> None:
    old = logins.set_recovery_code(office.logged_in(), PASSWORD)
    logins.set_recovery_code(office.logged_in(), PASSWORD)
    with pytest.raises(BadRecoveryCode):
        logins.recover(office.server, "alice", old, NEW_PASSWORD)
