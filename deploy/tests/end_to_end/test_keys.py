"""The key of a vault on storage nodes is changed while its devices use it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from client.account.device import Device as Account
from client.account.home import Home
from client.account.login import Server, login
from client.account.opening import place_of
from client.account.vault_keys import KeyChange, change_key, list_keys
from client.account.vaults import SealFile, Vaults
from client.errors import OortError, SealChanged, WrongRepositoryPassword
from client.restore.compare import differences
from client.vault.repository import open_vault
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of
from domain.names import SEAL
from domain.sessions import Purpose


def agreed(_: object) -> None:
    """To whatever it is."""


@pytest.fixture
def accounts(stack: Operator, tmp_path: Path) -> Iterator[Sequence[Account]]:
    """Two devices of one user, who has a vault named `shared`."""
    user = a_user(stack)
    server = Server(stack.env["OORT_AUTH"], Path(stack.env["OORT_CA"]))
    with ExitStack() as open_devices:
        made = []
        for name in ("first", "second"):
            login(Home(tmp_path / name), server, *user)
            made.append(open_devices.enter_context(Account(Home(tmp_path / name))))
        Vaults(made[0]).request("shared", "default")
        with place_of(made[0], "shared", Purpose.BACKUP) as place, place.store.open(Purpose.BACKUP) as session:
            place.open_or_create(session).close()
        yield made


def own_key(account: Account) -> str:
    vaults = Vaults(account)
    return vaults.repository_password(vaults.named("shared")) or ""


def opens_for(account: Account, password: str = "") -> bool:
    """By itself, or with that password."""
    with place_of(account, "shared") as place, place.store.open(Purpose.READ) as session:
        if not password:
            return place.open(session) is not None
        try:
            open_vault(session, password).close()
        except WrongRepositoryPassword:
            return False
        return True


def test_a_device_that_stopped_in_the_middle_of_a_change_finds_that_another_one_ended_it(
    accounts: Sequence[Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = accounts
    former = own_key(first)

    def falls_asleep(*_: object) -> None:
        raise OortError(detail="the lid was closed")

    with monkeypatch.context() as patched:
        patched.setattr(Vaults, "change_key", falls_asleep)
        with pytest.raises(OortError, match="the lid"):
            change_key(first, "shared", agreed)
    with place_of(first, "shared") as place, place.store.open(Purpose.READ) as session:
        read = session.get(SEAL)
    assert SealFile.from_bytes(read).next_key
    assert [opens_for(one) for one in accounts] == [True, True]
    assert change_key(second, "shared", agreed).is_resumed
    with (
        place_of(first, "shared", Purpose.RETENTION) as place,
        place.store.open(Purpose.RETENTION) as session,
        pytest.raises(SealChanged, match="run the command again"),
    ):
        session.replace_seal(b"what the first device had in mind", read)
    assert own_key(first) == own_key(second) != former
    assert [opens_for(one) for one in accounts] == [True, True]
    assert not opens_for(first, former)


def test_two_devices_that_change_the_key_at_once_leave_one_that_opens_on_both(accounts: Sequence[Account]) -> None:
    former, together = own_key(accounts[0]), Barrier(len(accounts))

    def change(account: Account) -> KeyChange | OortError:
        together.wait()
        try:
            return change_key(account, "shared", agreed)
        except OortError as error:
            return error

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(change, accounts))
    assert any(isinstance(answer, KeyChange) for answer in answers), answers
    for account in accounts:
        assert opens_for(account)
        change_key(account, "shared", agreed)  # ends what one of them may have begun
    assert [opens_for(account) for account in accounts] == [True, True]
    assert own_key(accounts[0]) == own_key(accounts[1]) != former
    assert len(list_keys(accounts[1], "shared")) == 1
    assert not opens_for(accounts[0], former)


@pytest.mark.needs("restic")
def test_a_changed_key_opens_the_vault_on_every_device_and_for_restic(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    first, second = Device(tmp_path / "first"), Device(tmp_path / "second")
    for device in (first, second):
        device.log_in(stack, name, password)
    first.request_vault("shared")
    source = a_tree(tmp_path / "source")
    kept = first.backup("shared", source)["snapshot"]
    before = first.recovery("shared")
    (old,) = first.tool.ok("key", "list", "--vault", "shared", "--json").json()

    assert first.tool.run("key", "change", "--vault", "shared").code == 2
    changed = first.tool.ok("key", "change", "--vault", "shared", "--yes", "--json").json()

    assert changed == {"removed": [old["id"]], "resumed": False}
    after = second.recovery("shared")
    assert after["password"] != before["password"]
    (new,) = second.tool.ok("key", "list", "--vault", "shared", "--json").json()
    assert (new["is_own"], new["id"] != old["id"]) == (True, True)
    wait_for_copies_of(stack, after["bucket"])
    folders = stack.bucket_folders(after["bucket"])
    assert len(folders) == 2
    assert len({(folder / "oort-vault").read_bytes() for folder in folders}) == 1
    for folder in folders:
        Restic(folder, after["password"], "--no-lock").check()
    second.tool.ok("check", "--vault", "shared")
    second.backup("shared", source)
    second.restore("shared", tmp_path / "target", kept)
    assert not list(differences(source, restored(tmp_path / "target", source)))
