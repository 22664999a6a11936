from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from oort.auth.v1.profiles_pb2 import Vault, VaultKind

from client.account.adding import add_local
from client.account.device import Device
from client.account.opening import Place, place_of
from client.account.tests.an_auth import Office
from client.account.vaults import SealFile, Vaults
from client.errors import (
    BrokenSeal,
    NameTaken,
    NoSuchVault,
    NotFound,
    ServerUnreachable,
    StoreError,
    UsageError,
    WrongRepositoryPassword,
)
from client.stores.local import LocalStore
from client.stores.tests.memory import MemoryStore
from client.vault.repository import create_vault
from domain.names import CONFIG, SEAL
from domain.sessions import Purpose


@pytest.fixture
def device(office: Office) -> Iterator[Device]:
    with Device(office.logged_in()) as device:
        yield device


def a_place(device: Device, entry: Vault, store: MemoryStore) -> Place:
    """A bucket's vault, whose objects lie in memory."""
    return Place(entry, store, Vaults(device), device)


def a_repository(path: Path, password: str) -> None:
    with LocalStore(path).open(Purpose.BACKUP) as session:
        assert create_vault(session, password) is not None


def test_a_requested_vault_has_its_key_sealed_at_once(office: Office, device: Device) -> None:
    vault = Vaults(device).request("main", "default")
    password = Vaults(device).repository_password(office.auth.vaults[vault.id])
    assert password is not None
    assert len(bytes.fromhex(password)) == 32
    assert password.encode() not in office.auth.vaults[vault.id].SerializeToString()


def test_a_name_that_exists_is_refused_before_anything_is_created(
    office: Office, device: Device, tmp_path: Path
) -> None:
    Vaults(device).request("main", "default")
    with pytest.raises(NameTaken):
        Vaults(device).request("main", "default")
    with pytest.raises(NameTaken):
        add_local(device, "main", tmp_path / "vault", None)
    assert not (tmp_path / "vault").exists()
    assert office.auth.calls.count("RequestVault") == 1


@pytest.mark.parametrize("name", ["", " main", "two\nlines", "x" * 256])
def test_what_is_no_name_is_refused(device: Device, name: str) -> None:
    with pytest.raises(UsageError):
        Vaults(device).request(name, "default")


def test_an_empty_repository_password_is_refused_before_anything_is_created(office: Office, device: Device) -> None:
    with pytest.raises(UsageError, match="is empty"):
        Vaults(device).request("main", "default", "")
    assert "RequestVault" not in office.auth.calls


def test_a_missing_template_is_told(device: Device) -> None:
    with pytest.raises(NotFound, match="template"):
        Vaults(device).request("main", "none")


def test_a_vault_that_does_not_exist_is_told(device: Device) -> None:
    with pytest.raises(NoSuchVault):
        Vaults(device).named("none")


def test_all_pages_of_vaults_are_read_and_kept_for_when_auth_is_away(office: Office, device: Device) -> None:
    for name in ("c", "a", "b"):
        Vaults(device).request(name, "default")
    assert [vault.name for vault in Vaults(device).all()] == ["a", "b", "c"]
    office.auth.is_down = True
    vaults = Vaults(device)
    assert [vault.name for vault in vaults.all()] == ["a", "b", "c"]
    assert isinstance(vaults.unreachable, ServerUnreachable)
    with pytest.raises(ServerUnreachable):
        vaults.named("new")


def test_of_two_first_keys_the_first_one_counts_for_both(office: Office, device: Device) -> None:
    entry = Vaults(device).request("main", "default")
    office.auth.vaults[entry.id].sealed_key = b""
    first = Vaults(device).seal_key(entry.id, "the first")
    office.auth.first_key = first
    assert Vaults(device).repository_password(Vaults(device).set_key(entry, "the second")) == "the first"


def test_two_devices_at_first_use_end_with_one_key(office: Office, device: Device) -> None:
    entry = Vaults(device).request("main", "default")
    office.auth.vaults[entry.id].sealed_key = b""
    entry.sealed_key = b""
    store = MemoryStore()
    with Device(office.logged_in("second")) as other:
        with store.open(Purpose.BACKUP) as session:
            mine = a_place(device, entry, store).open_or_create(session)
        with store.open(Purpose.BACKUP) as session:
            theirs = a_place(other, entry, store).open_or_create(session)
        assert mine.config == theirs.config
        with store.open(Purpose.READ) as session:
            seal = SealFile.from_bytes(session.get(SEAL))
            assert Vaults(other).open_seal_file(session.get(SEAL)) == Vaults(other).repository_password(
                office.auth.vaults[entry.id]
            )
        assert seal.vault == entry.id


def test_a_vault_that_was_never_used_has_nothing_to_open(device: Device) -> None:
    entry = Vaults(device).request("main", "default")
    store = MemoryStore()
    with store.open(Purpose.READ) as session:
        assert a_place(device, entry, store).open(session) is None


def test_an_old_auth_database_that_lacks_the_key_gets_it_from_the_vault(office: Office, device: Device) -> None:
    entry = Vaults(device).named(Vaults(device).request("main", "default").name)
    store = MemoryStore()
    with store.open(Purpose.BACKUP) as session:
        config = a_place(device, entry, store).open_or_create(session).config
    entry.sealed_key = b""
    office.auth.vaults[entry.id].sealed_key = b""
    with store.open(Purpose.READ) as session:
        vault = a_place(device, entry, store).open(session)
    assert vault is not None
    assert vault.config == config
    assert office.auth.vaults[entry.id].sealed_key


def test_a_wrong_key_in_the_profile_does_not_hide_the_right_one_in_the_vault(device: Device) -> None:
    entry = Vaults(device).named(Vaults(device).request("main", "default").name)
    store = MemoryStore()
    with store.open(Purpose.BACKUP) as session:
        a_place(device, entry, store).open_or_create(session)
    entry.sealed_key = Vaults(device).seal_key(entry.id, "another")
    with store.open(Purpose.READ) as session:
        assert a_place(device, entry, store).open(session) is not None


def test_a_new_folder_becomes_a_vault_with_its_key_beside_it(device: Device, tmp_path: Path) -> None:
    entry, created = add_local(device, "usb", tmp_path / "vault", None)
    assert created
    assert entry.kind == VaultKind.VAULT_KIND_LOCAL
    assert str(tmp_path).encode() not in entry.SerializeToString()
    assert Vaults(device).place(entry) == tmp_path / "vault"
    body = (tmp_path / "vault" / "oort-vault").read_bytes()
    assert Vaults(device).open_seal_file(body) == Vaults(device).repository_password(entry)
    with place_of(device, "usb") as place, place.store.open(Purpose.READ) as session:
        assert place.open(session) is not None


def test_a_vault_of_this_account_is_taken_in_again_without_a_password(
    office: Office, device: Device, tmp_path: Path
) -> None:
    entry, _ = add_local(device, "usb", tmp_path / "vault", None)
    password = Vaults(device).repository_password(entry)
    office.auth.vaults.clear()
    again, created = add_local(device, "usb", tmp_path / "vault", None)
    assert not created
    assert Vaults(device).repository_password(again) == password


def test_a_repository_is_taken_in_with_its_password_alone(office: Office, device: Device, tmp_path: Path) -> None:
    a_repository(tmp_path / "vault", "secret")
    with pytest.raises(UsageError, match="--repository-password-stdin"):
        add_local(device, "old", tmp_path / "vault", None)
    with pytest.raises(WrongRepositoryPassword):
        add_local(device, "old", tmp_path / "vault", "wrong")
    assert office.auth.vaults == {}
    entry, created = add_local(device, "old", tmp_path / "vault", "secret")
    assert not created
    assert Vaults(device).repository_password(entry) == "secret"
    assert all(b"secret" not in sent for sent in office.auth.seen)


def test_a_folder_with_other_things_in_it_is_left_alone(device: Device, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="neither empty nor a vault"):
        add_local(device, "usb", tmp_path / "vault", None)
    with pytest.raises(UsageError, match="not a folder"):
        add_local(device, "usb", tmp_path / "vault" / "letter.txt", None)
    assert [path.name for path in (tmp_path / "vault").iterdir()] == ["letter.txt"]


def test_a_password_for_an_empty_folder_is_a_mistake(device: Device, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no repository"):
        add_local(device, "usb", tmp_path / "vault", "secret")
    assert not (tmp_path / "vault" / "config").exists()


def test_a_vault_whose_disk_is_not_mounted_is_not_made_anew(device: Device, tmp_path: Path) -> None:
    add_local(device, "usb", tmp_path / "vault", None)
    (tmp_path / "vault").rename(tmp_path / "unplugged")
    with (
        place_of(device, "usb") as place,
        place.store.open(Purpose.BACKUP) as session,
        pytest.raises(StoreError, match="mounted"),
    ):
        place.open_or_create(session)
    assert not (tmp_path / "vault" / str(CONFIG)).exists()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"version": 2}', b"\xff", b'{"version": 1, "user": "x"}', b"[" * 9999]
)
def test_a_damaged_seal_file_is_told_as_such(body: bytes) -> None:
    with pytest.raises(BrokenSeal):
        SealFile.from_bytes(body)


def test_a_seal_file_for_what_is_no_vault_is_damaged() -> None:
    body = SealFile(UUID(int=1), "\ud800", b"sealed").to_bytes()
    with pytest.raises(BrokenSeal):
        SealFile.from_bytes(body)


def test_nothing_is_made_in_a_vault_whose_repository_is_still_to_be_put_in(office: Office, device: Device) -> None:
    entry = Vaults(device).request("theirs", "default", "made by restic")
    entry, store = office.auth.vaults[entry.id], MemoryStore()
    place = a_place(device, entry, store)
    with store.open(Purpose.BACKUP) as session:
        with pytest.raises(StoreError, match="not imported yet"):
            place.open_or_create(session)
        assert create_vault(session, "made by restic") is not None
        assert place.open_or_create(session) is not None
