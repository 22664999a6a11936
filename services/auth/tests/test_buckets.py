"""An administrator asks for what protects the vaults of its tenant; who administers the installation, for all."""

import grpc
from oort.storage.v1 import protection_pb2

from services.auth.tests.kit import Ground, an_id, refused


async def test_a_basket_is_told_with_the_names_of_vault_and_devices(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await world.signed_in(await world.a_tenant(), device=False)
        user = await world.signed_in(await world.a_user(boss.person))
        vault = await world.a_vault(user, "documents")
        stranger = str(an_id())
        world.nodes.removed[vault.id] = [
            protection_pb2.BasketEntry(name="snapshots/one", device_id=one) for one in (user.device, stranger, "")
        ]
        request = protection_pb2.ListBasketRequest(bucket_id=vault.id)
        page = await world.protection.ListBasket(request, metadata=boss.metadata)
        assert (page.vault_name, dict(page.device_names)) == ("documents", {user.device: "laptop"})
        assert [one.device_id for one in page.told.entries] == [user.device, stranger, ""]
        assert world.nodes.asked[-1].tenant_id == boss.person.tenant_id


async def test_an_administrator_reaches_the_own_tenant_and_one_of_the_installation_all(ground: Ground) -> None:
    async with ground.world() as world:
        user = await world.a_signed_in_user()
        vault = await world.a_vault(user)
        other = await world.signed_in(await world.a_tenant(), device=False)
        await world.a_template(other.person.tenant_id)
        root = await world.signed_in(await world.the_first_admin(), device=False)
        # Whatever the request says.
        request = protection_pb2.RestoreRequest(bucket_id=vault.id, tenant_id=user.person.tenant_id)
        with refused("NOT_FOUND"):
            await world.protection.Restore(request, metadata=other.metadata)
        with refused("NOT_ALLOWED"):
            await world.protection.Restore(request, metadata=user.metadata)
        plan = protection_pb2.PlanRestoreRequest(bucket_id=vault.id)
        assert (await world.protection.PlanRestore(plan, metadata=root.metadata)).from_seq == 3
        assert (await world.protection.Restore(request, metadata=root.metadata)).done
        with refused("INVALID_ARGUMENT"):
            await world.protection.Restore(protection_pb2.RestoreRequest(bucket_id="x"), metadata=root.metadata)


async def test_what_lowers_the_protection_is_for_administrators_of_the_installation(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await world.signed_in(await world.a_tenant(), device=False)
        user = await world.signed_in(await world.a_user(boss.person))
        vault = await world.a_vault(user)
        root = await world.signed_in(await world.the_first_admin(), device=False)
        longer = protection_pb2.SetLockRequest(bucket_id=vault.id, days=30)
        assert (await world.protection.SetLock(longer, metadata=boss.metadata)).days_before == 7
        shorter = protection_pb2.SetLockRequest(bucket_id=vault.id, days=3, shorten=True)
        release = protection_pb2.ReleaseRequest(bucket_id=vault.id)
        with refused("NOT_ALLOWED"):
            await world.protection.SetLock(shorter, metadata=boss.metadata)
        with refused("NOT_ALLOWED"):
            await world.protection.Release(release, metadata=boss.metadata)
        await world.protection.SetLock(shorter, metadata=root.metadata)
        assert not (await world.protection.Release(release, metadata=root.metadata)).was_braked


async def test_what_the_cluster_refuses_is_said_and_a_silent_one_may_have_the_bucket(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await world.signed_in(await world.a_tenant(), device=False)
        user = await world.signed_in(await world.a_user(boss.person))
        vault = await world.a_vault(user)
        request = protection_pb2.RestoreRequest(bucket_id=vault.id)
        world.nodes.brakes.add(vault.id)
        with refused("BUCKET_REFUSED") as refusal:
            await world.protection.Restore(request, metadata=boss.metadata)
        assert refusal.details == "a retention is open"
        world.nodes.failing = grpc.StatusCode.UNAVAILABLE
        with refused("STORAGE_UNAVAILABLE"):
            await world.protection.Restore(request, metadata=boss.metadata)
