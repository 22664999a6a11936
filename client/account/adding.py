"""A place that the user has becomes a vault: a folder, or a folder of a store on the net.

Kept true: nothing is created where something else lies, or in a place that is a vault of the account already; a
repository that is there is opened before it is entered; what opens a store is sealed with its address.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.device import Device
from client.account.seals import KEY_BYTES
from client.account.vaults import Vaults, new_id
from client.errors import (
    BrokenSeal,
    ObjectMissing,
    StoreError,
    UsageError,
    WrongRepositoryPassword,
)
from client.stores.abc import ObjectStore, StoreSession
from client.stores.local import LocalStore
from client.vault.repository import create_vault, open_vault
from domain.names import CONFIG, SEAL
from domain.sessions import Purpose

if TYPE_CHECKING:
    from client.stores.cloud import Location


def add_local(device: Device, name: str, path: Path, repository_password: str | None) -> tuple[VaultEntry, bool]:
    """Enter the folder `path` as a vault, creating one if it is missing or empty. True if it was created.

    Raises NameTaken before anything is created, UsageError for a folder that holds something else,
    WrongRepositoryPassword.
    """
    path = path.expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise UsageError(detail=f"{path} is not a folder.")

    def is_empty() -> bool:
        try:
            return not path.exists() or not any(path.iterdir())
        except OSError as error:
            raise StoreError(place=path, detail=error.strerror) from None

    return _add(device, name, path, LocalStore(path), is_empty=is_empty, repository_password=repository_password)


def add_cloud(
    device: Device, name: str, location: "Location", repository_password: str | None
) -> tuple[VaultEntry, bool]:
    """Enter a folder of a store on the net as a vault, creating one where nothing lies. True if it was created.

    Raises NameTaken before anything is created, UsageError for a folder that holds something else,
    WrongRepositoryPassword, StoreError.
    """
    from client.stores.cloud import CloudStore

    store = CloudStore(location)
    return _add(device, name, location, store, is_empty=store.is_empty, repository_password=repository_password)


def _add(
    device: Device,
    name: str,
    place: "Path | Location",
    store: ObjectStore,
    *,
    is_empty: Callable[[], bool],
    repository_password: str | None,
) -> tuple[VaultEntry, bool]:
    with closing(store):
        vaults = Vaults(device)
        vaults.refuse_taken(name)
        vaults.refuse_taken_place(store.place)
        vault_id = new_id()
        with store.open(Purpose.ADOPT) as session:
            created = not _has_config(session)
            if not created:
                password, repository = _password_of(vaults, session, store.place, repository_password)
            elif repository_password is not None:
                raise UsageError(detail=f"{store.place} holds no repository, so there is no password to give.")
            elif not is_empty():
                raise UsageError(detail=f"{store.place} is neither empty nor a vault: choose another folder.")
            else:
                password, repository = _create(vaults, session, store.place, vault_id)
        return vaults.enter(vault_id, name, place, password, repository), created


def _create(vaults: Vaults, session: StoreSession, place: str, vault_id: str) -> tuple[str, str]:
    """A new vault: its password, and its repository's id."""
    password = token_hex(KEY_BYTES)
    vault = create_vault(session, password, vaults.seal_file(vault_id, vaults.seal_key(vault_id, password)))
    if vault is None:
        raise StoreError(place=place, detail="another process has just created a vault there: run the command again")
    with vault:
        return password, vault.config.id


def _password_of(vaults: Vaults, session: StoreSession, place: str, given: str | None) -> tuple[str, str]:
    """Of a repository that is there: the password given, or sealed beside it by this account; and its id."""
    try:
        passwords = [given] if given is not None else vaults.keys_beside(session.get(SEAL))
    except (ObjectMissing, BrokenSeal):
        raise UsageError(
            detail=f"{place} holds a repository: give its password with --repository-password-stdin."
        ) from None
    for password in passwords:
        with suppress(WrongRepositoryPassword), open_vault(session, password) as vault:
            return password, vault.config.id
    raise WrongRepositoryPassword(place=place)


def _has_config(session: StoreSession) -> bool:
    try:
        session.get(CONFIG)
    except ObjectMissing:
        return False
    return True
