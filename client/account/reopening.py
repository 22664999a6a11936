"""Where a vault of the user's own lies is said anew, or what opens its store: a key, a password, a host key.

Kept true: it is sealed only once it has opened the same vault.
"""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from oort.auth.v1.profiles_pb2 import Vault, VaultKind

from client.account.device import Device
from client.account.vaults import Vaults
from client.errors import BrokenSeal, ObjectMissing, StoreError, UsageError
from client.stores.abc import ObjectStore
from client.stores.local import LocalStore
from client.vault.repository import open_vault
from domain.sessions import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.stores.cloud import Location


def reopen(device: Device, name: str, renewed: "Callable[[Location], Location]") -> "tuple[Vault, Location]":
    """Seal the location that `renewed` makes of the vault's. Answers the vault, and that.

    Raises NoSuchVault, UsageError for a vault that is not on a store of the net, StoreError, and
    WrongRepositoryPassword where another vault is found.
    """
    from client.stores.cloud import CloudStore, Location

    vaults = Vaults(device)
    vault = vaults.named(name)
    present = vaults.place(vault) if vault.kind == VaultKind.VAULT_KIND_LOCAL else None
    if not isinstance(present, Location):
        raise UsageError(detail=f"The vault {name} is not on a store of the net: nothing opens it but its key.")
    location = renewed(present)
    _seal_once_opened(vaults, vault, location, CloudStore(location))
    return vault, location


def say_moved(device: Device, name: str, place: "Path | Location") -> Vault:
    """Seal another place of a vault, where its files lie now. Answers the vault.

    Raises NoSuchVault, UsageError for a vault on storage nodes, NameTaken for a place that is a vault already,
    StoreError where nothing lies there, and WrongRepositoryPassword where another vault is found.
    """
    vaults = Vaults(device)
    vault = vaults.named(name)
    if vault.kind != VaultKind.VAULT_KIND_LOCAL:
        raise UsageError(detail=f"The vault {name} lies on your provider's storage nodes, and moves only with them.")
    if isinstance(place, Path):
        store: ObjectStore = LocalStore(place)
    else:
        from client.stores.cloud import CloudStore

        store = CloudStore(place)
    vaults.refuse_taken_place(store.place)
    _seal_once_opened(vaults, vault, place, store)
    return vault


def _seal_once_opened(vaults: Vaults, vault: Vault, place: "Path | Location", store: ObjectStore) -> None:
    password = vaults.repository_password(vault)
    if password is None:
        raise BrokenSeal(what=f"The key of the vault {vault.name}")
    with closing(store), store.open(Purpose.READ) as session:
        try:
            open_vault(session, password, place=store.place).close()
        except ObjectMissing as missing:
            raise StoreError(place=store.place, detail=f"no vault is there: {missing}") from None
    vaults.change_place(vault, place)
