"""Keys added, removed and changed, and a change that is interrupted anywhere: every device still gets in."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from client.account import opening
from client.account.adding import add_local
from client.account.device import Device
from client.account.opening import place_of
from client.account.tests.an_auth import Office
from client.account.vault_keys import KeyChange, add_key, change_key, list_keys, remove_key
from client.account.vaults import SealFile, Vaults
from client.errors import (
    NotFound,
    NotSupported,
    OortError,
    StoreError,
    UsageError,
    WeakPassword,
    WrongRepositoryPassword,
)
from client.stores.local import LocalSession, LocalStore
from client.testing.stops import Stop, StoppingSession
from client.vault.repository import open_vault
from domain.sessions import Purpose

CHOSEN = sha256(b"chosen").hexdigest()  # stretched little, as E is


@pytest.fixture
def device(office: Office) -> Iterator[Device]:
    with Device(office.logged_in()) as device:
        yield device


@pytest.fixture
def vault(device: Device, tmp_path: Path) -> Path:
    add_local(device, "disk", tmp_path / "vault", None)
    return tmp_path / "vault"


def opens(path: Path, password: str) -> bool:
    with LocalStore(path).open(Purpose.READ) as session:
        try:
            open_vault(session, password).close()
        except WrongRepositoryPassword:
            return False
    return True


def opens_for(device: Device) -> bool:
    with place_of(device, "disk") as place, place.store.open(Purpose.READ) as session:
        found = place.open(session)
        return found is not None


def own_password(device: Device) -> str:
    vaults = Vaults(device)
    password = vaults.repository_password(vaults.named("disk"))
    assert password
    return password


def anything(_: object) -> None:
    """Agreed."""


def test_a_key_is_added_listed_and_removed(device: Device, vault: Path) -> None:
    (own,) = list_keys(device, "disk")
    assert own.is_own
    added = add_key(device, "disk", CHOSEN)
    assert opens(vault, CHOSEN)
    assert {key.name: key.is_own for key in list_keys(device, "disk")} == {own.name: True, added: False}
    assert remove_key(device, "disk", added.id[:10], anything) == added
    assert not opens(vault, CHOSEN)
    assert opens_for(device)


def test_the_key_of_the_account_is_never_removed_nor_one_that_there_is_not(device: Device, vault: Path) -> None:
    (own,) = list_keys(device, "disk")
    for _ in range(2):
        with pytest.raises(UsageError, match="it stays"):
            remove_key(device, "disk", own.name.id, anything)
        add_key(device, "disk", CHOSEN)
    with pytest.raises(NotFound):
        remove_key(device, "disk", "xyz", anything)
    for last in "01":
        (vault / "keys" / ("0" * 63 + last)).write_bytes(b"rubbish")
    with pytest.raises(UsageError, match="give more digits"):
        remove_key(device, "disk", "00", anything)
    with pytest.raises(WeakPassword):
        add_key(device, "disk", "password")
    assert opens(vault, own_password(device))


def test_a_damaged_key_is_listed_and_can_be_removed(device: Device, vault: Path) -> None:
    name = "0" * 64
    (vault / "keys" / name).write_bytes(b"rubbish")
    (damaged,) = [key for key in list_keys(device, "disk") if key.damage]
    assert (damaged.name.id, damaged.file) == (name, None)
    remove_key(device, "disk", name, anything)
    assert len(list_keys(device, "disk")) == 1


def test_a_changed_key_opens_the_vault_and_the_former_does_not(device: Device, vault: Path) -> None:
    former = own_password(device)
    add_key(device, "disk", CHOSEN)
    (before,) = [key.name for key in list_keys(device, "disk") if key.is_own]
    change = change_key(device, "disk", anything)
    assert (change.removed, change.is_resumed) == ([before], False)
    assert own_password(device) != former
    assert (opens(vault, former), opens(vault, own_password(device)), opens(vault, CHOSEN)) == (False, True, True)
    seal = SealFile.from_bytes((vault / "oort-vault").read_bytes())
    assert (seal.next_key, seal.former_key) == (b"", b"")
    assert Vaults(device).open_seal_file(seal.to_bytes()) == own_password(device)


def test_nothing_is_changed_until_somebody_agrees(device: Device, vault: Path) -> None:
    def disagree(_: KeyChange) -> None:
        raise UsageError(detail="no")

    before = {path: path.read_bytes() for path in vault.rglob("*") if path.is_file() and "locks" not in path.parts}
    former = own_password(device)
    with pytest.raises(UsageError):
        change_key(device, "disk", disagree)
    assert own_password(device) == former
    assert {path: path.read_bytes() for path in before} == before
    assert len(list_keys(device, "disk")) == 1


def test_a_vault_of_another_account_keeps_its_key(device: Device, vault: Path) -> None:
    body = (vault / "oort-vault").read_bytes()
    other = body.replace(str(device.account.user_id).encode(), b"00000000-0000-0000-0000-000000000000")
    (vault / "oort-vault").write_bytes(other)
    with pytest.raises(NotSupported, match="locked out"):
        change_key(device, "disk", anything)
    assert opens(vault, own_password(device))


@contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> Iterator[None]:
    """From then on the vault's folder does not answer any more; nor does auth, if that comes before."""

    class Stopping(LocalStore):
        def open(self, purpose: Purpose, parent: Any = None) -> LocalSession:
            plain = super().open(purpose, parent)
            if purpose is not Purpose.RETENTION:
                return plain
            return StoppingSession(plain, stop)  # type: ignore[return-value]

    with monkeypatch.context() as patched:
        patched.setattr(opening, "LocalStore", Stopping)
        yield


@pytest.mark.parametrize("is_reply_lost", [False, True])
def test_wherever_a_change_is_interrupted_every_way_in_opens_and_the_next_change_ends_it(
    device: Device, vault: Path, monkeypatch: pytest.MonkeyPatch, is_reply_lost: bool
) -> None:
    at, stops, resumed = int(is_reply_lost), 0, set()
    while True:
        before = own_password(device)
        stopped = True
        stop = Stop(at, is_reply_lost=is_reply_lost)
        with stopping(monkeypatch, stop):
            try:
                change_key(device, "disk", anything)
                stopped = stop.has_come  # only in letting go of the lock
            except StoreError:
                stops += 1
        assert opens_for(device)
        assert opens(vault, own_password(device))
        beside = SealFile.from_bytes((vault / "oort-vault").read_bytes())
        assert opens(vault, Vaults(device).open_seal_file(beside.to_bytes()))
        if not stopped:
            break
        for lock in (vault / "locks").iterdir():
            lock.unlink()
        resumed.add(change_key(device, "disk", anything).is_resumed)
        assert len(list_keys(device, "disk")) == 1
        assert own_password(device) != before
        at += 2  # a lost answer to one call and a loss of the next are alike
    assert stops > 5
    assert resumed == {False, True}


def test_a_change_that_auth_did_not_hear_of_goes_on_later(
    device: Device, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = own_password(device)

    def refuse(*_: object) -> None:
        raise OortError(detail="auth is down")

    with monkeypatch.context() as patched:
        patched.setattr(Vaults, "change_key", refuse)
        with pytest.raises(OortError, match="auth is down"):
            change_key(device, "disk", anything)
    assert (own_password(device), opens(vault, former)) == (former, True)
    assert change_key(device, "disk", anything).is_resumed
    assert (opens(vault, former), len(list_keys(device, "disk"))) == (False, 1)
