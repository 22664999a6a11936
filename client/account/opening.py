"""From a vault's name to its objects and keys.

Kept true, whatever is interrupted: E is stored in the profile, or read from there, before a vault is initialised with
it, and lies beside the vault's objects from the same moment on; so the profile of an old auth database, an unfinished
first use and two first uses at once all end with the one E that opens the vault.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TypeVar
from uuid import UUID

from oort.auth.v1.profiles_pb2 import IssueVaultTokenRequest, VaultKind
from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.caches import note_repository
from client.account.device import Device
from client.account.seals import KEY_BYTES
from client.account.vaults import SealFile, Vaults
from client.errors import (
    BrokenSeal,
    DamagedVault,
    ObjectMissing,
    OortError,
    StoreError,
    UsageError,
    WrongRepositoryPassword,
)
from client.stores.abc import ObjectStore, StoreSession
from client.stores.limited import LimitedStore
from client.stores.local import LocalStore
from client.vault.locks import VaultLock, vault_lock
from client.vault.problems import Problem, cost_only
from client.vault.repository import Vault, create_vault, open_vault
from domain.names import CONFIG, SEAL
from domain.sessions import Purpose, Scope

S = TypeVar("S", bound=ObjectStore)

_CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Caches of oort; see https://bford.info/cachedir/\n"
_MADE_FOR_A_VAULT = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")
_NOT_THERE = "there is no vault here now: is the disk mounted that holds it, or was it moved?"


@dataclass(frozen=True, slots=True)
class Place:
    """A vault of the profile and the store that holds it."""

    entry: VaultEntry
    store: ObjectStore
    vaults: Vaults
    device: Device

    @property
    def is_own(self) -> bool:
        """Whether it lies in a place of the user's, and not on the provider's nodes."""
        return self.entry.kind == VaultKind.VAULT_KIND_LOCAL

    def cache(self) -> Path | None:
        """Where caches lie; None when the home's disk is full or read-only, which stops nothing."""
        return _cache(self.device)

    def own_folders(self) -> list[Path | None]:
        """What is not worth a place in a backup to this vault: the caches, and the vault itself."""
        return [self.cache(), self.store.path if isinstance(self.store, LocalStore) else None]

    def open(self, session: StoreSession) -> Vault | None:
        """The vault, or None if nothing was ever stored in it. Raises WrongRepositoryPassword, StoreError."""
        vault = self._open(session)
        if vault is not None:
            note_repository(self.device, self.entry.id, vault.config.id)
        return vault

    def _open(self, session: StoreSession) -> Vault | None:
        password = self.vaults.repository_password(self.entry)
        if password is not None:
            try:
                return open_vault(session, password, self.cache())
            except ObjectMissing as missing:
                if self.is_own or str(missing.fields.get("name")) != str(CONFIG):
                    raise StoreError(place=self.store.place, detail=_NOT_THERE) from None
                return None
            except WrongRepositoryPassword:
                pass
        beside = [key for key in self._keys_beside(session) if key != password]
        for key in beside:
            with suppress(WrongRepositoryPassword):
                vault = open_vault(session, key, self.cache())
                if not self.entry.sealed_key:
                    self.vaults.set_key(self.entry, key)
                return vault
        if beside or self.entry.sealed_key:
            raise WrongRepositoryPassword(place=self.store.place)
        return None

    def open_or_create(self, session: StoreSession) -> Vault:
        """The vault, initialised if this is its first use. `session` may write.

        Raises StoreError, also where a repository is to be put in: a password that has not the form of ours tells that.
        """
        vault = self.open(session)
        if vault is not None:
            return vault
        entry = self.entry
        password = self.vaults.repository_password(entry)
        if password is None:
            entry = self.vaults.set_key(entry, token_hex(KEY_BYTES))
            password = self.vaults.repository_password(entry)
        if password is None:
            raise StoreError(place=self.store.place, detail="its key could not be stored")
        if not _MADE_FOR_A_VAULT.fullmatch(password):
            raise StoreError(place=self.store.place, detail="its repository was not imported yet: ask your provider")
        seal = self.vaults.seal_file(entry.id, entry.sealed_key)
        created = create_vault(session, password, seal, cache=self.cache())
        # Another device was first: with the same E, which it had from the profile too.
        return created or open_vault(session, password, self.cache())

    def ensure_seal(self, session: StoreSession) -> None:
        """Have E lie beside the vault's objects, where a restic has made the vault with it. `session` may write.

        Raises StoreError.
        """
        if self.is_own:
            return  # whoever takes a repository in has its password
        try:
            session.get(SEAL)
        except ObjectMissing:
            session.replace_seal(self.vaults.seal_file(self.entry.id, self.entry.sealed_key), None)
        except DamagedVault:
            return  # `check` names it, and `key change` puts another in its place

    def seal_problems(self, session: StoreSession) -> Iterator[Problem]:
        """What is wrong with the file beside the vault's objects from which E is had when auth's database is lost."""
        try:
            body = session.get(SEAL)
            seal = SealFile.from_bytes(body)
            if seal.user != self.device.account.user_id:
                yield cost_only(SEAL, "it is of another account: this one has the vault's key in its profile alone")
                return
            beside = self.vaults.open_seal_file(body)
        except ObjectMissing:
            # Who adopted a repository has its password. One that was made for the vault is in no head.
            if _MADE_FOR_A_VAULT.fullmatch(self.vaults.repository_password(self.entry) or ""):
                why = "it is missing: this account has the vault's key in its profile alone"
                yield cost_only(SEAL, f"{why}; a device's first backup makes one, and so does `key change`")
        except BrokenSeal as error:
            yield Problem(str(SEAL), str(error))
        else:
            if seal.next_key or seal.former_key:
                yield Problem(str(SEAL), "a change of the vault's key was interrupted: `key change` ends it")
            elif beside != self.vaults.repository_password(self.entry):
                yield Problem(str(SEAL), "it seals another key than the account's profile")

    def locked(self, vault: Vault, *, exclusive: bool = False) -> AbstractContextManager[VaultLock | None]:
        """Hold restic's lock where the store keeps no sessions apart. Raises VaultLocked, StoreError.

        What fails or is interrupted closes the vault's session behind calls that hang: another one removes the lock.
        """
        store = self.store
        reopen = partial(store.open, Purpose.READ)
        return vault_lock(vault, needed=store.needs_locks, exclusive=exclusive, place=store.place, reopen=reopen)

    def _keys_beside(self, session: StoreSession) -> list[str]:
        """Every E in the file beside the vault's objects, if there is one of this account."""
        try:
            return self.vaults.keys_beside(session.get(SEAL))
        except (ObjectMissing, BrokenSeal):
            return []


@contextmanager
def place_of(device: Device, name: str, purpose: Purpose = Purpose.READ, *, from_cache: bool = True) -> Iterator[Place]:
    """The vault named `name`, with its store. Raises NoSuchVault.

    `purpose` is the utmost of what follows; `from_cache` allows that the device's own copies of small objects are read.
    """
    vaults = Vaults(device)
    with place_at(device, vaults, vaults.named(name), purpose, from_cache=from_cache) as place:
        yield place


@contextmanager
def place_at(
    device: Device, vaults: Vaults, entry: VaultEntry, purpose: Purpose, *, from_cache: bool = True
) -> Iterator[Place]:
    """As `place_of`, of a vault that was found. Raises BrokenSeal, UsageError."""
    store = _store(device, vaults, entry, purpose, _cache(device) if from_cache else None)
    try:
        yield Place(entry, store, vaults, device)
    finally:
        store.close()


def first_in_one_place(vaults: Vaults, entries: Sequence[VaultEntry]) -> tuple[VaultEntry, VaultEntry] | None:
    """The first two that lie in one place, as far as their addresses tell."""
    found: dict[str, VaultEntry] = {}
    for entry in entries:
        with suppress(BrokenSeal):  # told when it is opened
            other = found.setdefault(_address(vaults, entry), entry)
            if other is not entry:
                return other, entry
    return None


def _address(vaults: Vaults, entry: VaultEntry) -> str:
    if entry.kind != VaultKind.VAULT_KIND_LOCAL:
        return f"bucket {entry.bucket_id or entry.id}"
    where = vaults.place(entry)
    return f"folder {os.path.realpath(where)}" if isinstance(where, Path) else f"store {where.place}"


def _cache(device: Device) -> Path | None:
    try:
        folder = device.home.subfolder(device.home.folder / "vaults")
    except OortError:
        return None
    with suppress(OSError):  # other backup programs leave the folder out then
        if not (folder / "CACHEDIR.TAG").exists():
            (folder / "CACHEDIR.TAG").write_text(_CACHE_TAG)
    return folder


def _store(device: Device, vaults: Vaults, entry: VaultEntry, purpose: Purpose, cache: Path | None) -> ObjectStore:
    if entry.kind == VaultKind.VAULT_KIND_LOCAL:
        where = vaults.place(entry)
        if isinstance(where, Path):
            return LocalStore(where)
        from client.stores.cloud import CloudStore, Remembered  # which a vault on a disk does not wait for

        folder = _cache(device)  # in every command, as none is to trust an old list
        remembered = Remembered(None if folder is None else folder / f"{entry.id}.stored")
        return _limited(device, CloudStore(where, remembered=remembered, noted=device.noted))
    if entry.kind != VaultKind.VAULT_KIND_BUCKET:
        raise UsageError(detail=f"The vault {entry.name} is of a kind that this version does not know: update it.")
    from client.stores.node import KeepingStore, NodeStore, VaultAccess  # not needed by a vault on a disk

    def source(scopes: Sequence[Scope]) -> VaultAccess:
        request = IssueVaultTokenRequest(vault_id=entry.id, scopes=[scope.value for scope in scopes])
        issued = device.connection.call(device.profiles.IssueVaultToken, request)
        return VaultAccess(issued.token, tuple(issued.endpoints), frozenset(issued.scopes))

    store = NodeStore(
        bucket=UUID(entry.bucket_id),
        place=f"The storage of vault {entry.name}",
        source=source,
        device_key=device.key,
        ca_pem=device.home.ca(),
        ca_file=device.account.ca_file,
        purpose=purpose,
    )
    limited = _limited(device, store)  # what is kept here needs no line
    return limited if cache is None else KeepingStore(limited, cache / f"{entry.id}.objects")


def _limited(device: Device, store: S) -> S | LimitedStore:
    """A store at the other end of the device's line."""
    return LimitedStore(store, device.line) if device.line else store
