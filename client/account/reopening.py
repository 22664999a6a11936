"""Where a vault of the user's own lies is said anew, or what opens its store: a key, a password, a host key.

Kept true: it is sealed only once it has opened the same vault, which is known by the id in its config; where nothing
tells that id any more, a person has agreed. Another place is sealed only if all packs are there that its index lists.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from oort.auth.v1.profiles_pb2 import Vault as VaultEntry
from oort.auth.v1.profiles_pb2 import VaultKind

from client.account.device import Device
from client.account.opening import place_at
from client.account.vaults import Vaults
from client.errors import BrokenSeal, ObjectMissing, OortError, StoreError, UsageError
from client.stores.abc import ObjectStore
from client.stores.local import LocalStore
from client.vault.pack_sizes import PackSizes
from client.vault.packs import header_size
from client.vault.repository import Vault, open_vault
from domain.names import ObjectKind
from domain.sessions import Purpose

if TYPE_CHECKING:
    from client.stores.cloud import Location


def reopen(device: Device, name: str, renewed: "Callable[[Location], Location]") -> "tuple[VaultEntry, Location]":
    """Seal the location that `renewed` makes of the vault's. Answers the vault, and that.

    Raises NoSuchVault, UsageError for a vault that is not on a store of the net, StoreError, also where another vault
    is found, and WrongRepositoryPassword.
    """
    from client.stores.cloud import CloudStore, Location

    vaults = Vaults(device)
    entry = vaults.named(name)
    present = vaults.place(entry) if entry.kind == VaultKind.VAULT_KIND_LOCAL else None
    if not isinstance(present, Location):
        raise UsageError(detail=f"The vault {name} is not on a store of the net: nothing opens it but its key.")
    location = renewed(present)
    known = vaults.repository(entry)

    def ensure_same(store: ObjectStore, vault: Vault) -> None:
        _refuse_another(store, vault, known or vault.config.id)  # at the address that it had

    _seal_once_opened(vaults, entry, location, CloudStore(location), ensure_same)
    return entry, location


def say_moved(device: Device, name: str, place: "Path | Location", agree: Callable[[str], None]) -> VaultEntry:
    """Seal another place of a vault, where its files lie now. Answers the vault.

    `agree` is asked about a repository, by its id, where nothing tells that it is the vault's, and raises if not.

    Raises NoSuchVault, UsageError for a vault on storage nodes, NameTaken for a place that is another vault already,
    StoreError where nothing lies there, another vault, or not all of it, and WrongRepositoryPassword.
    """
    vaults = Vaults(device)
    entry = vaults.named(name)
    if entry.kind != VaultKind.VAULT_KIND_LOCAL:
        raise UsageError(detail=f"The vault {name} lies on your provider's storage nodes, and moves only with them.")
    if isinstance(place, Path):
        store: ObjectStore = LocalStore(place)
    else:
        from client.stores.cloud import CloudStore

        store = CloudStore(place)
    vaults.refuse_taken_place(store.place, but=entry.id)

    def ensure_whole(store: ObjectStore, vault: Vault) -> None:
        known = vaults.repository(entry) or _repository_in_the_old_place(device, vaults, entry)
        _refuse_another(store, vault, known or vault.config.id)
        _refuse_a_part(store, vault)
        if known is None:
            agree(vault.config.id)

    _seal_once_opened(vaults, entry, place, store, ensure_whole)
    return entry


def _seal_once_opened(
    vaults: Vaults,
    entry: VaultEntry,
    place: "Path | Location",
    store: ObjectStore,
    ensure: Callable[[ObjectStore, Vault], None],
) -> None:
    password = vaults.repository_password(entry)
    if password is None:
        raise BrokenSeal(what=f"The key of the vault {entry.name}")
    with closing(store), store.open(Purpose.READ) as session:
        try:
            vault = open_vault(session, password, place=store.place)
        except ObjectMissing as missing:
            raise StoreError(place=store.place, detail=f"no vault is there: {missing}") from None
        with vault:
            ensure(store, vault)
            repository = vault.config.id
    vaults.change_place(entry, place, repository)


def _repository_in_the_old_place(device: Device, vaults: Vaults, entry: VaultEntry) -> str | None:
    """The id of a vault that was sealed without it, if it can still be read where it was."""
    with (
        suppress(OortError),
        place_at(device, vaults, entry, Purpose.READ, from_cache=False) as place,
        place.store.open(Purpose.READ) as session,
    ):
        vault = place.open(session)
        if vault is not None:
            with vault:
                return vault.config.id
    return None


def _refuse_another(store: ObjectStore, vault: Vault, known: str) -> None:
    """One password may open many repositories. Raises StoreError."""
    found = vault.config.id
    if found != known:
        detail = f"another vault is there, the repository {found}, and not {known}: `vault add` takes it in"
        raise StoreError(place=store.place, detail=detail)


def _refuse_a_part(store: ObjectStore, vault: Vault) -> None:
    """Compare the index with a listing of the packs; no pack is read. Raises StoreError.

    A backup would take what is listed for stored.
    """
    index = vault.load_index()  # first, so that what is stored meanwhile is in the listing
    sizes = PackSizes(vault.session.list(ObjectKind.PACK))
    lacking = len(index.damaged)
    for name, entries in index.packs():
        size = sizes.take(bytes.fromhex(name.id))
        lacking += size is None or size < sum(entry.length for entry in entries) + header_size(entries)
    if lacking:
        files = "1 file of it is" if lacking == 1 else f"{lacking} files of it are"
        detail = f"it is not the whole vault: by its index {files} missing, or cut off: copy the rest"
        raise StoreError(place=store.place, detail=detail)
