"""Vaults whose bucket an operator has moved to another storage cluster."""

from oort.auth.v1 import admin_pb2, profiles_pb2
from oort.storage.v1 import protection_pb2

from services.auth.tests.kit import Ground, World, a_name, an_id, refused


async def moved(world: World, bucket: str, cluster: str, *, check: bool = False) -> None:
    await world.setup.MoveBucket(admin_pb2.MoveBucketRequest(bucket_id=bucket, cluster=cluster, check=check))


async def test_the_devices_of_a_vault_are_sent_where_its_bucket_was_moved(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault, other = await world.a_vault(session), await world.a_vault(session)
        far = a_name("far")
        await world.setup.PutStorageCluster(
            admin_pb2.PutStorageClusterRequest(name=far, internal_endpoints=[world.nodes_endpoint])
        )
        await moved(world, vault.bucket_id, far, check=True)
        listed = await world.profiles.ListVaults(profiles_pb2.ListVaultsRequest(), metadata=session.metadata)
        assert {one.cluster for one in listed.vaults} == {world.cluster}
        for _ in range(2):  # the same again changes nothing
            await moved(world, vault.bucket_id, far)
        listed = await world.profiles.ListVaults(profiles_pb2.ListVaultsRequest(), metadata=session.metadata)
        clusters = {one.id: one.cluster for one in listed.vaults}
        assert clusters == {vault.id: far, other.id: world.cluster}
        await moved(world, vault.bucket_id, world.cluster)
        listed = await world.profiles.ListVaults(profiles_pb2.ListVaultsRequest(), metadata=session.metadata)
        assert {one.cluster for one in listed.vaults} == {world.cluster}


async def test_nobody_is_sent_to_a_cluster_that_is_not_set_up_nor_for_a_vault_that_is_not_there(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        for check in (True, False):
            with refused("INVALID_ARGUMENT"):
                await moved(world, vault.bucket_id, "nowhere", check=check)
            with refused("NOT_FOUND"):
                await moved(world, str(an_id()), world.cluster, check=check)


async def test_a_cluster_that_follows_a_vault_does_not_answer_for_the_one_that_has_it(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault, other = await world.a_vault(session), await world.a_vault(session)
        silent = a_name("silent")
        await world.setup.PutStorageCluster(
            admin_pb2.PutStorageClusterRequest(name=silent, internal_endpoints=["localhost:1"])
        )
        # The first cluster has both buckets, and one of the vaults is the other's by now.
        await moved(world, vault.bucket_id, silent)
        root = await world.signed_in(await world.the_first_admin(), device=False)
        longer = protection_pb2.SetLockRequest(bucket_id=vault.bucket_id, days=30)
        with refused("STORAGE_UNAVAILABLE"):
            await world.protection.SetLock(longer, metadata=root.metadata)
        longer.bucket_id = other.bucket_id
        await world.protection.SetLock(longer, metadata=root.metadata)
