"""Vaults in a user's profile.

Kept true: a vault on the storage role is entered only after its bucket exists, under the same id, so a call that was
cut off is repeated and ends as one call; no transaction is open while the storage role is asked; E's seal is stored
once and never replaced; a token is for the caller's own vault and bound to the caller's device key.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.sessions import Scope
from domain.tokens import VaultClaims
from services.auth import retention
from services.auth.errors import (
    AppendOnly,
    DeviceUnknown,
    IdTaken,
    NameTaken,
    NoSuchTemplate,
    StaleVersion,
    StorageUnavailable,
    VaultHasKey,
)
from services.auth.gate import Caller
from services.auth.pages import cut
from services.auth.retention import VaultRetention
from services.auth.storage import Storage
from services.auth.store import clusters, devices, templates, vaults
from services.auth.store.clusters import StorageCluster
from services.auth.store.devices import Device
from services.auth.store.templates import Template
from services.auth.store.vaults import Vault, VaultKind
from services.auth.tokens import TokenSigner
from services.common.clock import Clock
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound
from services.common.paging import Page


@dataclass(frozen=True, slots=True)
class VaultToken:
    token: str
    expires: datetime
    endpoints: list[str]  # host:port of the nodes' public listeners
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Vaults:
    db: Database
    clock: Clock
    storage: Storage
    signer: TokenSigner

    async def page(self, caller: Caller, page: Page) -> tuple[list[tuple[Vault, VaultRetention]], str]:
        """Vaults with their retention, and the token of the next page."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            rows = await vaults.page(unit, caller.user, page.after[0] if page.after else "", page.limit)
            found = await retention.of_vaults(unit, rows)
        listed = [(row, found.get(row.id, VaultRetention())) for row in rows]
        return cut(page, listed, lambda one: [one[0].name], _size)

    async def add_local(self, caller: Caller, vault: UUID, name: str, sealed_place: bytes, sealed_key: bytes) -> Vault:
        """Enter a vault on the user's own disk; a repeated call is the same call. Raises NameTaken, IdTaken."""
        wanted = Vault(
            id=vault,
            tenant_id=caller.tenant,
            user_id=caller.user,
            name=name,
            kind=VaultKind.LOCAL,
            bucket_id=None,
            cluster=None,
            template=None,
            sealed_place=sealed_place,
            sealed_key=sealed_key,
            quota_bytes=0,
            created=self.clock.now(),
        )
        async with self.db.unit(caller.tenant, caller.user) as unit:
            return await _insert(unit, wanted)

    async def request(self, caller: Caller, vault: UUID, name: str, template: str) -> Vault:
        """A vault from a template: its bucket first, then its entry; a repeated call is the same call.

        Raises NoSuchTemplate, NameTaken, IdTaken, StorageUnavailable.
        """
        known, chosen, cluster = await self._plan(caller, vault, name, template)
        if known:
            return known
        wanted = Vault(
            id=vault,
            tenant_id=caller.tenant,
            user_id=caller.user,
            name=name,
            kind=VaultKind.BUCKET,
            bucket_id=vault,
            cluster=cluster.name,
            template=chosen.name,
            sealed_place=b"",
            sealed_key=b"",
            quota_bytes=chosen.quota_bytes,
            created=self.clock.now(),
        )
        await self.storage.make_bucket(cluster, wanted, chosen)
        async with self.db.unit(caller.tenant, caller.user) as unit:
            return await _insert(unit, wanted)

    async def _plan(
        self, caller: Caller, vault: UUID, name: str, template: str
    ) -> tuple[Vault | None, Template, StorageCluster]:
        """What a request would do, and the vault if it was done before."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await vaults.get(unit, vault)
            if known and (known.name, known.template, known.removed) != (name, template, None):
                raise IdTaken(what="vault", id=vault)
            # Not by this very vault, which the same call at another replica may have entered since.
            if not known and await vaults.name_is_taken(unit, caller.user, name, by_other_than=vault):
                raise NameTaken(name=name)
            chosen = await templates.find(unit, template)
            if chosen is None:
                listed = ", ".join(await templates.names(unit))
                there_are = f"There are: {listed}." if listed else "There are none: ask your administrator."
                raise NoSuchTemplate(name=template, known=there_are)
            cluster = await clusters.get(unit, chosen.cluster)
            if cluster is None:
                raise StorageUnavailable(cluster=chosen.cluster, detail="it is not set up.")
        return known, chosen, cluster

    async def set_key(self, caller: Caller, vault: UUID, sealed_key: bytes, replaces: bytes) -> None:
        """Store E sealed under K, in place of the one that it replaces, or of none; the same again is the same call.

        Raises VaultHasKey, NotFound; AppendOnly for a device that may only add and replaces one.
        """
        if replaces:
            caller.require_full()
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if await vaults.set_key(unit, vault, sealed_key, replaces):
                return
            known = await in_force(unit, vault)
        if known.sealed_key != sealed_key:
            raise VaultHasKey

    async def set_place(self, caller: Caller, vault: UUID, sealed_place: bytes, replaces: bytes) -> None:
        """Store another sealed place in place of the one that it replaces; the same again is the same call.

        Raises StaleVersion, NotFound.
        """
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if await vaults.set_place(unit, vault, sealed_place, replaces):
                return
            known = await in_force(unit, vault)
        if known.sealed_place != sealed_place:
            raise StaleVersion

    async def remove(self, caller: Caller, vault: UUID) -> None:
        """Take a vault out of the profile; its stored data stays. Raises NotFound."""
        async with self.db.unit(caller.tenant, caller.user) as unit:
            if not await vaults.remove(unit, vault, self.clock.now()):
                raise NotFound(what="such vault")

    async def issue_token(self, caller: Caller, vault: UUID, scopes: list[str]) -> VaultToken:
        """A token for the caller's device, without the scope to delete for one that may only add.

        Raises NotFound, NotAllowed, AppendOnly, InvalidArgument, StorageUnavailable.
        """
        device_id, asked = caller.own_device, _scopes(scopes)
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await in_force(unit, vault)
            device = await devices.get(unit, device_id)
        if device is None or device.revoked:
            raise DeviceUnknown
        claims = claims_for(known, device, asked)
        if not claims.scopes:
            raise AppendOnly
        endpoints = await self.storage.public_endpoints(claims.cluster)
        token, expires = self.signer.sign(claims, self.clock.now())
        return VaultToken(token, expires, endpoints, claims.scopes)


def claims_for(vault: Vault, device: Device, scopes: frozenset[Scope]) -> VaultClaims:
    """What a token for a device says; one that may only add has no scope to delete.

    Raises InvalidArgument for a vault that lies on no storage cluster.
    """
    if vault.bucket_id is None or vault.cluster is None:
        raise InvalidArgument(detail=f"The vault {vault.name} does not lie on a storage cluster: it needs no token.")
    return VaultClaims(
        tenant=vault.tenant_id,
        user=vault.user_id,
        device=device.id,
        bucket=vault.bucket_id,
        cluster=vault.cluster,
        scopes=scopes - {Scope.DELETE} if device.append_only else scopes,
        quota_bytes=vault.quota_bytes,
        device_key=device.public_key,
    )


def _size(listed: tuple[Vault, VaultRetention]) -> int:
    vault, rules = listed
    return len(vault.sealed_place) + len(vault.sealed_key) + len(json.dumps([one.policy for one in rules.policies]))


def _scopes(asked: list[str]) -> frozenset[Scope]:
    try:
        scopes = frozenset(Scope(scope) for scope in asked)
    except ValueError as error:
        raise InvalidArgument(detail=f"scopes: {error}; there are: {', '.join(Scope)}.") from None
    if not scopes:
        raise InvalidArgument(detail=f"scopes is empty; there are: {', '.join(Scope)}.")
    return scopes


async def in_force(unit: Unit, vault: UUID) -> Vault:
    """A vault of the profile. Raises NotFound."""
    known = await vaults.get(unit, vault)
    if known is None or known.removed:
        raise NotFound(what="such vault")
    return known


async def _insert(unit: Unit, wanted: Vault) -> Vault:
    """Enter a vault, or find that the same call entered it. Raises NameTaken, IdTaken."""
    if await vaults.insert(unit, wanted):
        return wanted
    known = await vaults.get(unit, wanted.id)
    if known is None and await vaults.name_is_taken(unit, wanted.user_id, wanted.name, by_other_than=wanted.id):
        raise NameTaken(name=wanted.name)
    if known is None or not _same(known, wanted):
        raise IdTaken(what="vault", id=wanted.id)
    return known


def _same(known: Vault, wanted: Vault) -> bool:
    """Whether the same call made both: a key set since then, and another quota of the template, do not count."""
    return known == replace(
        wanted,
        created=known.created,
        quota_bytes=known.quota_bytes,
        sealed_key=wanted.sealed_key or known.sealed_key,
    )
