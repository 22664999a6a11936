"""The change of a vault's key on a store that keeps sessions apart, as storage nodes do: interrupted anywhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.account import opening
from client.account.device import Device
from client.account.tests.an_auth import Office
from client.account.tests.test_vault_keys import CHOSEN, anything, opens_for, own_password
from client.account.vault_keys import add_key, change_key, list_keys, remove_key
from client.account.vaults import SealFile, Vaults
from client.errors import NotSupported, SealChanged, StoreError, WrongRepositoryPassword
from client.stores.abc import StoreSession
from client.stores.tests.memory import MemoryStore
from client.testing.stops import Stop, StoppingSession
from client.vault.repository import open_vault
from domain.names import SEAL, ObjectName
from domain.sessions import Purpose


class StoppingStore(MemoryStore):
    """The store does not answer a session of retention any more when a stop has come."""

    def __init__(self) -> None:
        super().__init__()
        self.stop: Stop | None = None

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> StoreSession:  # type: ignore[override]
        session = super().open(purpose, parent)
        return session if purpose is not Purpose.RETENTION or self.stop is None else StoppingSession(session, self.stop)

    def opens(self, password: str) -> bool:
        with super().open(Purpose.READ) as session:
            try:
                open_vault(session, password).close()
            except WrongRepositoryPassword:
                return False
        return True

    def password_beside(self, device: Device) -> str:
        return Vaults(device).open_seal_file(self.objects[SEAL])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> StoppingStore:
    made = StoppingStore()
    monkeypatch.setattr(opening, "_store", lambda *_arguments: made)
    return made


@pytest.fixture
def device(office: Office, store: StoppingStore, tmp_path: Path) -> Iterator[Device]:
    office.auth.vaults.clear()
    with Device(office.logged_in(tmp_path.name)) as device:
        Vaults(device).request("disk", "default")
        with opening.place_of(device, "disk") as place, store.open(Purpose.BACKUP) as session:
            place.open_or_create(session).close()
        yield device


def test_keys_are_added_changed_and_removed(device: Device, store: StoppingStore) -> None:
    former = own_password(device)
    added = add_key(device, "disk", CHOSEN)
    (before,) = [key.name for key in list_keys(device, "disk") if key.is_own]
    assert change_key(device, "disk", anything).removed == [before]
    assert own_password(device) != former
    assert [store.opens(one) for one in (former, own_password(device), CHOSEN)] == [False, True, True]
    assert store.password_beside(device) == own_password(device)
    remove_key(device, "disk", added.id, anything)
    assert [store.opens(one) for one in (own_password(device), CHOSEN)] == [True, False]


def test_a_key_that_a_running_backup_has_made_stays_until_that_is_over(device: Device, store: StoppingStore) -> None:
    former = own_password(device)
    (key,) = [key.name for key in list_keys(device, "disk")]
    with store.open(Purpose.BACKUP) as backup:
        backup.put(key, store.objects[key])
        with pytest.raises(NotSupported, match=f"{key} stays"):
            change_key(device, "disk", anything)
        assert [store.opens(one) for one in (former, own_password(device))] == [True, True]
    assert change_key(device, "disk", anything).is_resumed
    assert [store.opens(one) for one in (former, own_password(device))] == [False, True]


@pytest.mark.parametrize("opening_key", ["sealed_key", "next_key", "former_key"])
def test_a_device_opens_the_vault_with_any_key_that_the_seal_has(
    office: Office, device: Device, store: StoppingStore, opening_key: str
) -> None:
    vaults = Vaults(device)
    entry = vaults.named("disk")
    keys = dict.fromkeys(("sealed_key", "next_key", "former_key"), vaults.seal_key(entry.id, "of yesterday"))
    keys[opening_key] = entry.sealed_key
    store.objects[SEAL] = SealFile(device.account.user_id, entry.id, **keys).to_bytes()
    assert opens_for(device)
    office.auth.vaults[entry.id].sealed_key = vaults.seal_key(entry.id, "of an old database")
    assert opens_for(device)
    store.objects[SEAL] = vaults.seal_file(entry.id, vaults.seal_key(entry.id, "of yesterday"))
    with pytest.raises(WrongRepositoryPassword):
        opens_for(device)


def test_of_two_devices_that_change_the_key_the_second_is_told_and_nothing_is_lost(
    office: Office, device: Device, store: StoppingStore
) -> None:
    seal = store.objects[SEAL]
    with store.open(Purpose.RETENTION) as session:
        with Device(office.logged_in("second")) as other:
            store.open_sessions.clear()  # the first device has slept for too long
            change_key(other, "disk", anything)
        with pytest.raises(SealChanged, match="run the command again"):
            session.replace_seal(b"from a device that slept", seal)
    assert opens_for(device)
    assert store.password_beside(device) == own_password(device)


@pytest.mark.parametrize("is_reply_lost", [False, True])
def test_wherever_a_change_is_interrupted_every_way_in_opens_and_the_next_change_ends_it(
    device: Device, store: StoppingStore, is_reply_lost: bool
) -> None:
    at, stops, resumed, has_stopped = int(is_reply_lost), 0, set(), True
    while has_stopped:
        before = own_password(device)
        store.stop = stop = Stop(at, is_reply_lost=is_reply_lost)
        try:
            change_key(device, "disk", anything)
        except StoreError:
            stops += 1
        has_stopped = stop.has_come
        store.stop = None
        store.open_sessions.clear()  # a node ends those that are silent
        assert opens_for(device)
        assert store.opens(own_password(device))
        assert store.opens(store.password_beside(device))
        if has_stopped:
            resumed.add(change_key(device, "disk", anything).is_resumed)
        assert own_password(device) != before
        assert not store.opens(before)
        assert len(list_keys(device, "disk")) == 1
        at += 2  # a lost answer to one call and a loss of the next are alike
        seal = SealFile.from_bytes(store.objects[SEAL])
        assert (seal.next_key, seal.former_key) == (b"", b"")
    assert stops > 5
    assert resumed == {False, True}
