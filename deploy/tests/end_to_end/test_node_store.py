"""The storage role as an ObjectStore keeps what every store must keep (client/stores/tests/contract.py)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex

import pytest
from oort.auth.v1.profiles_pb2 import IssueVaultTokenRequest

from client.account import opening
from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from client.account.vaults import Vaults
from client.errors import AppendOnly, NotSupported, StoreError
from client.stores.abc import ObjectStore
from client.stores.tests.contract import StoreContract, a_pack, initialised
from deploy.driver import Operator
from deploy.tests.end_to_end.conftest import a_device
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope


@pytest.fixture(scope="module")
def account(stack: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    home = tmp_path_factory.mktemp("store") / "home"
    a_device(stack, home)
    with Account(Home(home)) as account:
        yield account


@pytest.fixture
def store(account: Account) -> Iterator[ObjectStore]:
    """An empty bucket with two copies."""
    name = f"vault-{token_hex(4)}"
    Vaults(account).request(name, "default")
    with place_of(account, name) as place:
        yield place.store


class TestNodeStore(StoreContract):
    @pytest.fixture
    def store(self, store: ObjectStore) -> ObjectStore:
        return store


def test_an_index_file_that_lists_a_pack_of_nobody_here_is_refused(store: ObjectStore) -> None:
    (own, body), (foreign, _) = a_pack(), a_pack()
    index = ObjectName.of(ObjectKind.INDEX, b"index")
    with store.open(Purpose.BACKUP) as session:
        initialised(session)
        session.put(own, body)
        with pytest.raises(StoreError):
            session.put(index, b"index", [own, foreign])
        assert session.put(index, b"index", [own])


def test_a_snapshot_without_its_index_file_is_refused(store: ObjectStore) -> None:
    snapshot = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")
    with store.open(Purpose.BACKUP) as session:
        initialised(session)
        pack, body = a_pack()
        session.put(pack, body)
        with pytest.raises(StoreError, match="index"):
            session.commit(snapshot, b"snapshot")
        session.put(ObjectName.of(ObjectKind.INDEX, b"index"), b"index", [pack])
        session.commit(snapshot, b"snapshot")


def test_a_device_whose_tokens_may_only_add_opens_no_retention(
    store: ObjectStore, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.open(Purpose.BACKUP) as session:
        initialised(session)

    def narrowed(vault_id: str, scopes: Sequence[str]) -> IssueVaultTokenRequest:
        return IssueVaultTokenRequest(vault_id=vault_id, scopes=[one for one in scopes if one != Scope.DELETE])

    monkeypatch.setattr(opening, "IssueVaultTokenRequest", narrowed)
    vault = max(Vaults(account).all(), key=lambda vault: vault.id)
    with place_of(account, vault.name, Purpose.RETENTION) as place:
        assert [place.store.allows(one) for one in (Purpose.READ, Purpose.BACKUP, Purpose.RETENTION)] == [1, 1, 0]
        with pytest.raises(AppendOnly, match=f"The storage of vault {vault.name} lets this device only add"):
            place.store.open(Purpose.RETENTION)
        with place.store.open(Purpose.BACKUP) as session:
            name, body = a_pack()
            assert session.put(name, body)
            with pytest.raises(NotSupported):
                session.replace_seal(b"another", None)


def test_homes_of_two_accounts_share_nothing(stack: Operator, account: Account, tmp_path: Path) -> None:
    a_device(stack, tmp_path / "other", "private")
    assert "private" not in [vault.name for vault in Vaults(account).all()]
