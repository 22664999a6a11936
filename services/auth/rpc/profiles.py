import secrets
from typing import Any

from oort.auth.v1 import profiles_pb2, profiles_pb2_grpc

from services.auth.gate import Context, Gate, Need
from services.auth.items import Items
from services.auth.names import bounded, new_id, opaque, printable, short_text
from services.auth.rest_access import RestAccess
from services.auth.retention import Retention, VaultRetention
from services.auth.store.items import Item
from services.auth.store.templates import Template
from services.auth.store.vaults import Vault, VaultKind
from services.auth.templates import Templates
from services.auth.vaults import Vaults
from services.common.errors import InvalidArgument
from services.common.messages import optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import page_of

# Bounds of what clients seal.
_LONGEST_ITEM = 256 << 10
_LONGEST_PLACE = 16 << 10
_LONGEST_KEY = 1024
_KINDS = {
    VaultKind.BUCKET: profiles_pb2.VAULT_KIND_BUCKET,
    VaultKind.LOCAL: profiles_pb2.VAULT_KIND_LOCAL,
}


class ProfilesRpc(profiles_pb2_grpc.ProfileServiceServicer):
    def __init__(
        self,
        gate: Gate,
        items: Items,
        vaults: Vaults,
        *,
        retention: Retention,
        templates: Templates,
        rest: RestAccess,
    ) -> None:
        self._gate = gate
        self._items = items
        self._vaults = vaults
        self._retention = retention
        self._templates = templates
        self._rest = rest

    async def ListItems(
        self, request: profiles_pb2.ListItemsRequest, context: Context
    ) -> profiles_pb2.ListItemsResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._items.page(caller, page_of(request), all_devices=request.all_devices)
        return profiles_pb2.ListItemsResponse(items=[_item(row) for row in rows], next_page_token=token)

    async def PutItem(self, request: profiles_pb2.PutItemRequest, context: Context) -> profiles_pb2.PutItemResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        item = request.item
        stored = await self._items.put(
            caller,
            new_id(item.id, "item.id"),
            printable(item.engine, "An engine's name"),
            opaque(item.sealed, "item.sealed", _LONGEST_ITEM),
            bounded(item.version, "item.version", most=(1 << 63) - 2),
        )
        return profiles_pb2.PutItemResponse(item=_item(stored))

    async def DeleteItem(
        self, request: profiles_pb2.DeleteItemRequest, context: Context
    ) -> profiles_pb2.DeleteItemResponse:
        caller = await self._gate.caller(context)
        await self._items.delete(caller, uuid_of(request.id, "id"))
        return profiles_pb2.DeleteItemResponse()

    async def ListVaults(
        self, request: profiles_pb2.ListVaultsRequest, context: Context
    ) -> profiles_pb2.ListVaultsResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._vaults.page(caller, page_of(request))
        return profiles_pb2.ListVaultsResponse(
            vaults=[_listed(*row) for row in rows],
            next_page_token=token,
            now=timestamp_of(self._vaults.clock.now()),
        )

    async def AddVault(self, request: profiles_pb2.AddVaultRequest, context: Context) -> profiles_pb2.AddVaultResponse:
        caller = await self._gate.caller(context)
        vault = request.vault
        if vault.kind != profiles_pb2.VAULT_KIND_LOCAL:
            raise InvalidArgument(detail="vault.kind: only a local vault is added; request one on the storage role.")
        stored = await self._vaults.add_local(
            caller,
            new_id(vault.id, "vault.id"),
            printable(vault.name, "A vault's name"),
            opaque(vault.sealed_place, "vault.sealed_place", _LONGEST_PLACE, least=1),
            opaque(vault.sealed_key, "vault.sealed_key", _LONGEST_KEY),
        )
        return profiles_pb2.AddVaultResponse(vault=_vault(stored))

    async def RequestVault(
        self, request: profiles_pb2.RequestVaultRequest, context: Context
    ) -> profiles_pb2.RequestVaultResponse:
        caller = await self._gate.caller(context)
        vault = await self._vaults.request(
            caller,
            new_id(request.id, "id"),
            printable(request.name, "A vault's name"),
            short_text(request.template, "template"),
        )
        return profiles_pb2.RequestVaultResponse(vault=_vault(vault))

    async def SetVaultKey(
        self, request: profiles_pb2.SetVaultKeyRequest, context: Context
    ) -> profiles_pb2.SetVaultKeyResponse:
        caller = await self._gate.caller(context)
        sealed_key = opaque(request.sealed_key, "sealed_key", _LONGEST_KEY, least=1)
        replaces = opaque(request.replaces, "replaces", _LONGEST_KEY)
        await self._vaults.set_key(caller, uuid_of(request.vault_id, "vault_id"), sealed_key, replaces)
        return profiles_pb2.SetVaultKeyResponse()

    async def SetVaultPlace(
        self, request: profiles_pb2.SetVaultPlaceRequest, context: Context
    ) -> profiles_pb2.SetVaultPlaceResponse:
        caller = await self._gate.caller(context, Need.FULL)
        sealed_place = opaque(request.sealed_place, "sealed_place", _LONGEST_PLACE, least=1)
        replaces = opaque(request.replaces, "replaces", _LONGEST_PLACE, least=1)
        await self._vaults.set_place(caller, uuid_of(request.vault_id, "vault_id"), sealed_place, replaces)
        return profiles_pb2.SetVaultPlaceResponse()

    async def RemoveVault(
        self, request: profiles_pb2.RemoveVaultRequest, context: Context
    ) -> profiles_pb2.RemoveVaultResponse:
        caller = await self._gate.caller(context, Need.FULL)
        await self._vaults.remove(caller, uuid_of(request.vault_id, "vault_id"))
        return profiles_pb2.RemoveVaultResponse()

    async def SetRetention(
        self, request: profiles_pb2.SetRetentionRequest, context: Context
    ) -> profiles_pb2.SetRetentionResponse:
        caller = await self._gate.caller(context, Need.FULL)
        await self._retention.set(
            caller,
            uuid_of(request.vault_id, "vault_id"),
            optional_uuid_of(request.item_id, "item_id"),
            _document(request.policy) if request.HasField("policy") else None,
        )
        return profiles_pb2.SetRetentionResponse()

    async def ListTemplates(
        self, request: profiles_pb2.ListTemplatesRequest, context: Context
    ) -> profiles_pb2.ListTemplatesResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._templates.page(caller, page_of(request))
        return profiles_pb2.ListTemplatesResponse(
            templates=[template_message(row) for row in rows], next_page_token=token
        )

    async def IssueVaultToken(
        self, request: profiles_pb2.IssueVaultTokenRequest, context: Context
    ) -> profiles_pb2.IssueVaultTokenResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        issued = await self._vaults.issue_token(caller, uuid_of(request.vault_id, "vault_id"), list(request.scopes))
        return profiles_pb2.IssueVaultTokenResponse(
            token=issued.token,
            expires=timestamp_of(issued.expires),
            endpoints=issued.endpoints,
            scopes=sorted(issued.scopes),
        )

    async def IssueRestAccess(
        self, request: profiles_pb2.IssueRestAccessRequest, context: Context
    ) -> profiles_pb2.IssueRestAccessResponse:
        caller = await self._gate.caller(context, Need.DEVICE)
        vault = uuid_of(request.vault_id, "vault_id")
        issued = await self._rest.issue(caller, vault, secrets.token_bytes(10), append_only=request.append_only)
        return profiles_pb2.IssueRestAccessResponse(
            username=issued.username, password=issued.password, endpoints=issued.endpoints
        )

    async def RevokeRestAccess(
        self, request: profiles_pb2.RevokeRestAccessRequest, context: Context
    ) -> profiles_pb2.RevokeRestAccessResponse:
        caller = await self._gate.caller(context, Need.FULL)
        revoked = await self._rest.revoke(caller, uuid_of(request.vault_id, "vault_id"))
        return profiles_pb2.RevokeRestAccessResponse(revoked=revoked)


def template_message(template: Template) -> profiles_pb2.Template:
    return profiles_pb2.Template(
        id=str(template.id),
        name=template.name,
        description=template.description,
        cluster=template.cluster,
        copies=template.copies,
        ack_copies=template.ack_copies,
        quota_bytes=template.quota_bytes,
    )


def _item(item: Item) -> profiles_pb2.Item:
    return profiles_pb2.Item(
        id=str(item.id),
        device_id=str(item.device_id),
        engine=item.engine,
        sealed=item.sealed,
        version=item.version,
        modified=timestamp_of(item.modified),
    )


def _vault(vault: Vault) -> profiles_pb2.Vault:
    return profiles_pb2.Vault(
        id=str(vault.id),
        name=vault.name,
        kind=_KINDS[VaultKind(vault.kind)],
        bucket_id=str(vault.bucket_id) if vault.bucket_id else "",
        cluster=vault.cluster or "",
        sealed_place=vault.sealed_place,
        sealed_key=vault.sealed_key,
        created=timestamp_of(vault.created),
        quota_bytes=vault.quota_bytes,
    )


def _listed(vault: Vault, rules: VaultRetention) -> profiles_pb2.Vault:
    message = _vault(vault)
    for stored in rules.policies:
        if stored.item_id is None:
            message.retention.CopyFrom(_policy(stored.policy))
        else:
            message.item_retention.add(item_id=str(stored.item_id), policy=_policy(stored.policy))
    if rules.last_pass:
        message.last_retention.CopyFrom(timestamp_of(rules.last_pass))
    return message


def _policy(document: dict[str, Any]) -> profiles_pb2.RetentionPolicy:
    ranges = [profiles_pb2.RetentionRange(**one) for one in document["ranges"]]
    return profiles_pb2.RetentionPolicy(mode=document["mode"], ranges=ranges, time_zone=document["time_zone"])


def _document(policy: profiles_pb2.RetentionPolicy) -> dict[str, Any]:
    """What domain/retention_policy.py reads; a field that is 0 is one that is not given."""
    ranges = [{field.name: value for field, value in one.ListFields()} for one in policy.ranges]
    return {"mode": policy.mode, "ranges": ranges, "time_zone": policy.time_zone}
