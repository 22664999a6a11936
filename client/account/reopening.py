"""What opens the store of a vault is said anew: a key that was changed there, another password, another host key.

Kept true: it is sealed only once it has opened the same vault.
"""

from contextlib import closing
from typing import TYPE_CHECKING

from oort.auth.v1.profiles_pb2 import Vault, VaultKind

from client.account.device import Device
from client.account.vaults import Vaults
from client.errors import BrokenSeal, UsageError
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
    password = vaults.repository_password(vault)
    if password is None:
        raise BrokenSeal(what=f"The key of the vault {name}")
    location = renewed(present)
    with closing(CloudStore(location)) as store, store.open(Purpose.READ) as session:
        open_vault(session, password).close()
    vaults.change_place(vault, location)
    return vault, location
