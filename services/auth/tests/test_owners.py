"""Whose buckets are, told to a storage cluster that has lost its catalogue."""

import grpc
import pytest
from oort.auth.v1 import admin_pb2, admin_pb2_grpc, owners_pb2, owners_pb2_grpc, profiles_pb2

from services.auth.tests.kit import Ground, World, an_id
from services.common.testing.server import reason_of


async def owners(world: World, *buckets: object, cluster: str = "", role: str = "storage") -> list[owners_pb2.Owner]:
    request = owners_pb2.GetOwnersRequest(cluster=cluster or world.cluster, bucket_ids=map(str, buckets))
    async with world.endpoints.internal_channel(role, "node-1") as channel:
        return list((await owners_pb2_grpc.OwnerServiceStub(channel).GetOwners(request)).owners)


async def test_a_node_is_told_whose_vaults_lie_in_buckets(ground: Ground) -> None:
    async with ground.world() as world:
        one, other = await world.a_signed_in_user(), await world.a_signed_in_user()
        first, second = await world.a_vault(one), await world.a_vault(other)
        remove = profiles_pb2.RemoveVaultRequest(vault_id=second.id)
        await world.profiles.RemoveVault(remove, metadata=other.metadata)
        found = {owner.bucket_id: owner for owner in await owners(world, first.id, second.id, an_id())}
        assert set(found) == {first.id, second.id}, "its data stays when a vault is taken out of a profile"
        assert {owner.copies for owner in found.values()} == {world.nodes.buckets[first.id].copies} == {2}
        assert found[first.id].user_id != found[second.id].user_id
        assert await owners(world, first.id, cluster="another") == []


async def test_nobody_else_is_told_and_what_is_no_id_is_refused(ground: Ground) -> None:
    async with ground.world() as world:
        for role, asked, reason in (
            ("operator", [an_id()], "NOT_ALLOWED"),
            ("storage", ["x"], "INVALID_ARGUMENT"),
            ("storage", [an_id()] * 1001, "INVALID_ARGUMENT"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await owners(world, *asked, role=role)
            assert reason_of(refusal.value) == reason


async def test_an_operator_is_told_what_people_call_the_vaults_in_buckets(ground: Ground) -> None:
    async with ground.world() as world:
        one, other = await world.a_signed_in_user(), await world.a_signed_in_user()
        first, second = await world.a_vault(one, "photos"), await world.a_vault(other, "letters")
        remove = profiles_pb2.RemoveVaultRequest(vault_id=second.id)
        await world.profiles.RemoveVault(remove, metadata=other.metadata)
        request = admin_pb2.GetVaultNamesRequest(bucket_ids=[first.id, second.id, str(an_id())])
        found = {each.bucket_id: each for each in (await world.setup.GetVaultNames(request)).vaults}
        assert {(each.vault, each.username, each.tenant, each.removed) for each in found.values()} == {
            ("photos", one.person.username, one.person.tenant, False),
            ("letters", other.person.username, other.person.tenant, True),
        }


async def test_names_are_told_to_operators_alone_and_of_a_thousand_buckets_at_once(ground: Ground) -> None:
    async with ground.world() as world:
        for role, asked, reason in (
            ("storage", [an_id()], "NOT_ALLOWED"),
            ("operator", ["x"], "INVALID_ARGUMENT"),
            ("operator", [an_id()] * 1001, "INVALID_ARGUMENT"),
        ):
            async with world.endpoints.internal_channel(role, "one") as channel:
                request = admin_pb2.GetVaultNamesRequest(bucket_ids=map(str, asked))
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await admin_pb2_grpc.SetupServiceStub(channel).GetVaultNames(request)
                assert reason_of(refusal.value) == reason
