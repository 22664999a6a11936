"""The vaults of the profile: found, requested, brought in; their keys and places opened with K.

Kept true: E is sealed before it is used, and used by every device of the account: whoever is second takes what the
first stored. What auth said last is kept in the home, so that vaults on the device's own disks need no server.
"""

import base64
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from google.protobuf.message import DecodeError
from oort.auth.v1 import profiles_pb2
from oort.auth.v1.profiles_pb2 import Vault, VaultKind

from client.account.connection import OUT_OF_REACH, Refused, translate
from client.account.device import Device
from client.account.seals import KEY_BYTES, SealPurpose
from client.errors import BrokenSeal, NameTaken, NoSuchVault, OortError, UsageError
from domain.ids import uuid7

if TYPE_CHECKING:
    from client.stores.cloud.location import Location

_CACHE = "vaults.cache"
_LONGEST_NAME = 255
_SEAL_VERSION = 1


@dataclass(frozen=True, slots=True)
class SealFile:
    """What `oort-vault` in a vault holds: E sealed under K, and whose and which vault's seal it is.

    While E is being changed it also has the one that comes next, and after that the former one, both sealed.
    """

    user: UUID
    vault: str
    sealed_key: bytes
    next_key: bytes = b""
    former_key: bytes = b""

    def to_bytes(self) -> bytes:
        fields = {
            "version": _SEAL_VERSION,
            "user": str(self.user),
            "vault": self.vault,
            "sealed_key": base64.b64encode(self.sealed_key).decode(),
        }
        for name, sealed in (("next_key", self.next_key), ("former_key", self.former_key)):
            if sealed:
                fields[name] = base64.b64encode(sealed).decode()
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def from_bytes(cls, body: bytes) -> "SealFile":
        """Raises BrokenSeal."""
        try:
            fields = json.loads(body)
            keys = (base64.b64decode(fields.get(name, "")) for name in ("next_key", "former_key"))
            seal = cls(UUID(fields["user"]), str(UUID(fields["vault"])), base64.b64decode(fields["sealed_key"]), *keys)
            known = fields["version"] == _SEAL_VERSION
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = False
        if not known:
            raise BrokenSeal(what="The file oort-vault")
        return seal


class Vaults:
    """The profile's vaults, as this device sees them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.unreachable: OortError | None = None  # why the last list is the one kept in the home
        self.now: datetime | None = None  # by auth's clock, when it was last heard

    def all(self) -> list[Vault]:
        """By name. From the home when auth cannot be reached and has said something before."""
        try:
            found = self._fetch()
        except OUT_OF_REACH as error:
            cached = self._cached()
            if cached is None:
                raise
            self.unreachable = error
            found = cached
        return sorted(found, key=lambda vault: vault.name)

    def named(self, name: str) -> Vault:
        """Raises NoSuchVault; what keeps auth out of reach, if it is not among those seen last."""
        return self.all_named([name])[0]

    def all_named(self, names: Sequence[str]) -> list[Vault]:
        """As `named`, in the order of the names."""
        known = {vault.name: vault for vault in self.all()}
        for name in names:
            if name not in known:
                raise self.unreachable or NoSuchVault(name=name)
        return [known[name] for name in names]

    def request(self, name: str, template: str, repository_password: str | None = None) -> Vault:
        """Take storage from a template, whose vault has a new E, or the password of a repository that will be put in.

        Raises NameTaken, NotFound for the template, UsageError for an empty password.
        """
        if repository_password == "":
            raise UsageError(detail="The repository's password is empty: give the one that opens the repository.")
        self.refuse_taken(name)
        request = profiles_pb2.RequestVaultRequest(id=new_id(), name=name, template=template)
        vault = self._device.connection.call(self._device.profiles.RequestVault, request).vault
        self.set_key(vault, secrets.token_hex(KEY_BYTES) if repository_password is None else repository_password)
        return vault

    def enter(
        self, vault_id: str, name: str, place: "Path | Location", repository_password: str, repository: str
    ) -> Vault:
        """Enter a vault in a folder, or on a store whose keys are sealed with its address. Raises NameTaken.

        `repository` is the id in its config, by which it is known again in another place.
        """
        vault = Vault(
            id=vault_id,
            name=name,
            kind=VaultKind.VAULT_KIND_LOCAL,
            sealed_place=self._seal_place(vault_id, place, repository),
            sealed_key=self.seal_key(vault_id, repository_password),
        )
        request = profiles_pb2.AddVaultRequest(vault=vault)
        added = self._device.connection.call(self._device.profiles.AddVault, request).vault
        self._fetch_if_possible()
        return added

    def refuse_taken(self, name: str) -> None:
        """Raises NameTaken or UsageError before anything is created; needs auth."""
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise UsageError(detail=f"A vault's name has 1 to {_LONGEST_NAME} printable characters.")
        if any(vault.name == name for vault in self._fetch()):
            raise NameTaken(detail=f"There is a vault named {name} already: choose another name.")

    def refuse_taken_place(self, place: str, but: str = "") -> None:
        """Raises NameTaken for a place that is a vault of the account already, but for that of the id `but`."""
        for other in self.all():
            if other.id != but and other.kind == VaultKind.VAULT_KIND_LOCAL and self._place_or_empty(other) == place:
                raise NameTaken(detail=f"{place} is the vault {other.name} already.")

    def _place_or_empty(self, vault: Vault) -> str:
        try:
            return self.place_text(vault)
        except BrokenSeal:
            return ""

    def set_key(self, vault: Vault, repository_password: str) -> Vault:
        """Store E sealed under K, once; answers the vault with the seal that counts, ours or the first one's."""
        sealed = self.seal_key(vault.id, repository_password)
        request = profiles_pb2.SetVaultKeyRequest(vault_id=vault.id, sealed_key=sealed)
        try:
            self._device.connection.ask(self._device.profiles.SetVaultKey, request)
        except Refused as refused:
            if refused.refusal.reason != "VAULT_HAS_KEY":
                raise translate(refused.refusal, self._device.connection.server) from None
        for known in self._fetch():
            if known.id == vault.id and known.sealed_key:
                return known
        raise NoSuchVault(name=vault.name)

    def change_key(self, vault: Vault, sealed_key: bytes) -> None:
        """Store another E, sealed under K, in place of the one that `vault` has. Raises OortError if it has another."""
        request = profiles_pb2.SetVaultKeyRequest(vault_id=vault.id, sealed_key=sealed_key, replaces=vault.sealed_key)
        try:
            self._device.connection.ask(self._device.profiles.SetVaultKey, request)
        except Refused as refused:
            if refused.refusal.reason != "VAULT_HAS_KEY":
                raise translate(refused.refusal, self._device.connection.server) from None
            raise OortError(
                detail=f"Another device has just changed the key of the vault {vault.name}: run the command again."
            ) from None
        self._fetch()

    def remove(self, vault: Vault) -> None:
        """Take a vault out of the account; nothing that is stored in it is touched. Raises OortError."""
        request = profiles_pb2.RemoveVaultRequest(vault_id=vault.id)
        self._device.connection.call(self._device.profiles.RemoveVault, request)
        self._fetch_if_possible()

    def change_place(self, vault: Vault, place: "Path | Location", repository: str) -> None:
        """Seal another place, or what opens it, in place of the one that `vault` has. Raises OortError."""
        sealed = self._seal_place(vault.id, place, repository)
        request = profiles_pb2.SetVaultPlaceRequest(vault_id=vault.id, sealed_place=sealed, replaces=vault.sealed_place)
        try:
            self._device.connection.ask(self._device.profiles.SetVaultPlace, request)
        except Refused as refused:
            if refused.refusal.reason != "STALE_VERSION":
                raise translate(refused.refusal, self._device.connection.server) from None
            raise OortError(
                detail=f"Another device has just changed what opens the vault {vault.name}: run the command again."
            ) from None
        self._fetch_if_possible()

    def _seal_place(self, vault_id: str, place: "Path | Location", repository: str) -> bytes:
        where = {"path": str(place)} if isinstance(place, Path) else {"store": place.fields}
        fields = {**where, "repository": repository}
        return self._device.sealer.seal(SealPurpose.VAULT_PLACE, json.dumps(fields).encode(), vault_id)

    def _place_fields(self, vault: Vault) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(
            self._device.sealer.open(SealPurpose.VAULT_PLACE, vault.sealed_place, vault.id)
        )
        return fields

    def repository_password(self, vault: Vault) -> str | None:
        """E in hex, or the password of a repository brought in; None before first use. Raises BrokenSeal."""
        return self.open_sealed(vault.id, vault.sealed_key) if vault.sealed_key else None

    def seal_key(self, vault_id: str, repository_password: str) -> bytes:
        """E, or the password of a repository brought in, sealed under K for one vault."""
        return self._device.sealer.seal(SealPurpose.VAULT_KEY, repository_password.encode(), vault_id)

    def place(self, vault: Vault) -> "Path | Location":
        """Where a vault lies that is not the provider's: a folder, or a store. Raises BrokenSeal."""
        fields = self._place_fields(vault)
        if "path" in fields:
            return Path(fields["path"])
        from client.stores.cloud.location import Location  # not needed by a vault on a disk

        return Location.from_fields(fields["store"])

    def repository(self, vault: Vault) -> str | None:
        """The id in the config of such a vault; None where the place was sealed without. Raises BrokenSeal."""
        return self._place_fields(vault).get("repository")

    def place_text(self, vault: Vault) -> str:
        """The same for a person, without what opens it. Raises BrokenSeal."""
        where = self.place(vault)
        return str(where) if isinstance(where, Path) else where.place

    def open_sealed(self, vault_id: str, sealed_key: bytes) -> str:
        """E from a seal of it. Raises BrokenSeal."""
        return self._device.sealer.open(SealPurpose.VAULT_KEY, sealed_key, vault_id).decode()

    def seal_file(self, vault_id: str, sealed_key: bytes) -> bytes:
        """The content of `oort-vault`."""
        return SealFile(self._device.account.user_id, vault_id, sealed_key).to_bytes()

    def open_seal_file(self, body: bytes) -> str:
        """E from `oort-vault`. Raises BrokenSeal when it is another user's, or damaged."""
        seal = SealFile.from_bytes(body)
        return self.open_sealed(seal.vault, seal.sealed_key)

    def keys_beside(self, body: bytes) -> list[str]:
        """Every E that `oort-vault` has: while it is being changed also the next or the former one, which come last.

        Raises BrokenSeal when none opens.
        """
        seal = SealFile.from_bytes(body)
        found = []
        for sealed in filter(None, (seal.sealed_key, seal.next_key, seal.former_key)):
            with suppress(BrokenSeal):
                found.append(self.open_sealed(seal.vault, sealed))
        if not found:
            raise BrokenSeal(what="The file oort-vault")
        return found

    def _fetch(self) -> list[Vault]:
        """All from auth; kept in the home for when it cannot be reached."""
        kept = profiles_pb2.ListVaultsResponse()
        for page in self._device.connection.pages(self._device.profiles.ListVaults, profiles_pb2.ListVaultsRequest()):
            kept.vaults.extend(page.vaults)
            self.now = page.now.ToDatetime(UTC) if page.HasField("now") else None
        body = kept.SerializeToString(deterministic=True)
        if self._device.home.read(_CACHE) != body:
            keep_if_possible(self._device, _CACHE, body)
        return list(kept.vaults)

    def _fetch_if_possible(self) -> None:
        """After something was done: it is done, also where auth is not heard any more."""
        with suppress(OortError):
            self._fetch()

    def _cached(self) -> list[Vault] | None:
        body = self._device.home.read(_CACHE)
        if body is None:
            return None
        try:
            return list(profiles_pb2.ListVaultsResponse.FromString(body).vaults)
        except DecodeError:
            return None


def keep_if_possible(device: Device, name: str, body: bytes) -> None:
    """Write a cache of the home: a full disk there must not stop what goes over the network."""
    try:
        device.home.write(name, body)
    except OortError:
        device.home.forget(name)  # what is left would be out of date


def new_id() -> str:
    return str(uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)))
