"""With what a restic opens a vault: issued, exchanged for vault tokens, and ended."""

import grpc
import jwt
import pytest
from oort.auth.v1 import admin_pb2, devices_pb2, profiles_pb2, rest_pb2, rest_pb2_grpc
from oort.storage.v1 import buckets_pb2

from domain.sessions import Scope
from domain.tokens import AUDIENCE, ISSUER, VaultClaims
from services.auth.tests.kit import SIGNING_KEY, Ground, SignedIn, World, an_id, refused
from services.common.testing.server import reason_of

NODES = [
    buckets_pb2.Node(id="node-2", rest_endpoint="n2.test:8071", live=False),
    buckets_pb2.Node(id="node-3", live=True),
    buckets_pb2.Node(id="node-1", rest_endpoint="n1.test:8071", live=True),
]


async def a_vault(world: World, session: SignedIn) -> str:
    world.nodes.nodes = NODES
    return str((await world.a_vault(session)).id)


async def issue(
    world: World, session: SignedIn, vault: str, *, append_only: bool = False
) -> profiles_pb2.IssueRestAccessResponse:
    request = profiles_pb2.IssueRestAccessRequest(vault_id=vault, append_only=append_only)
    return await world.profiles.IssueRestAccess(request, metadata=session.metadata)


async def exchange(world: World, username: str, password: str, role: str = "storage") -> VaultClaims:
    async with world.endpoints.internal_channel(role, "node-1") as channel:
        stub = rest_pb2_grpc.RestAccessServiceStub(channel)
        answer = await stub.Exchange(rest_pb2.ExchangeRequest(username=username, password=password))
    payload = jwt.decode(
        answer.token,
        SIGNING_KEY.public_key(),
        algorithms=["EdDSA"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    return VaultClaims.from_payload(payload)


async def is_refused(world: World, issued: profiles_pb2.IssueRestAccessResponse) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await exchange(world, issued.username, issued.password)
    return reason_of(refusal.value) == "NOT_SIGNED_IN"


async def test_a_device_gets_the_same_for_a_vault_each_time(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await a_vault(world, session)
        issued = await issue(world, session, vault)
        assert list(issued.endpoints) == ["n1.test:8071", "n2.test:8071"]
        assert await issue(world, session, vault) == issued
        append_only = await issue(world, session, vault, append_only=True)
        other_device = await issue(world, await world.signed_in(session.person), vault)
        assert len({one.password for one in (issued, append_only, other_device)}) == 3


async def test_a_node_exchanges_it_for_a_token_of_that_vault_and_device(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await a_vault(world, session)
        issued = await issue(world, session, vault)
        claims = await exchange(world, issued.username, issued.password)
        assert (str(claims.bucket), str(claims.device), str(claims.user), str(claims.tenant)) == (
            vault, session.device, session.person.id, session.person.tenant_id,
        )  # fmt: skip
        assert claims.scopes == frozenset(Scope)
        issued = await issue(world, session, vault, append_only=True)
        claims = await exchange(world, issued.username, issued.password)
        assert claims.scopes == {Scope.READ, Scope.APPEND}


async def test_only_storage_nodes_exchange(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        issued = await issue(world, session, await a_vault(world, session))
        with refused("NOT_ALLOWED"):
            await exchange(world, issued.username, issued.password, "cluster")


async def test_what_was_not_issued_is_refused(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await a_vault(world, session)
        issued, other = await issue(world, session, vault), await issue(world, session, vault, append_only=True)
        changed = issued.password[:-2] + ("AA" if issued.password[-2:] != "AA" else "BB")
        for username, password in (
            (issued.username, changed),
            (issued.username, other.password),
            (str(an_id()), issued.password),
            (issued.username, ""),
            (issued.username, "not base64 é"),
            ("", issued.password),
        ):
            with refused("NOT_SIGNED_IN"):
                await exchange(world, username, password)


async def test_what_was_revoked_opens_nothing_and_another_is_issued(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await a_vault(world, session)
        issued, other = await issue(world, session, vault), await issue(world, session, vault, append_only=True)
        request = profiles_pb2.RevokeRestAccessRequest(vault_id=vault)
        assert (await world.profiles.RevokeRestAccess(request, metadata=session.metadata)).revoked == 2
        assert (await world.profiles.RevokeRestAccess(request, metadata=session.metadata)).revoked == 0
        assert await is_refused(world, issued)
        assert await is_refused(world, other)
        again = await issue(world, session, vault)
        assert again.password != issued.password
        await exchange(world, again.username, again.password)


async def test_what_ends_a_device_s_tokens_ends_its_urls(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await world.a_tenant()
        admin = await world.signed_in(boss, device=False)
        person = await world.a_user(boss)
        first, second = await world.signed_in(person), await world.signed_in(person)
        vault = await a_vault(world, first)
        issued, other = await issue(world, first, vault), await issue(world, second, vault)
        await world.devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=first.device), metadata=second.metadata)
        assert await is_refused(world, issued)
        await exchange(world, other.username, other.password)
        for suspended in (True, False):
            await world.admin.SuspendUser(
                admin_pb2.SuspendUserRequest(user_id=person.id, suspended=suspended), metadata=admin.metadata
            )
            if suspended:
                assert await is_refused(world, other)
        await exchange(world, other.username, other.password)
        await world.profiles.RemoveVault(profiles_pb2.RemoveVaultRequest(vault_id=vault), metadata=second.metadata)
        assert await is_refused(world, other)


async def test_a_vault_without_nodes_that_serve_restic_has_no_url(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        world.nodes.nodes = NODES[1:2]
        vault = str((await world.a_vault(session)).id)
        with refused("STORAGE_UNAVAILABLE") as refusal:
            await issue(world, session, vault)
        assert "none of its nodes has a REST port" in refusal.details
        local = profiles_pb2.Vault(
            id=str(an_id()), name="disk", kind=profiles_pb2.VAULT_KIND_LOCAL, sealed_place=b"sealed"
        )
        await world.profiles.AddVault(profiles_pb2.AddVaultRequest(vault=local), metadata=session.metadata)
        with refused("INVALID_ARGUMENT"):
            await issue(world, session, local.id)
