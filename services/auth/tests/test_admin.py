import secrets

import grpc
import jwt
import pytest
from oort.auth.v1 import accounts_pb2, admin_pb2, profiles_pb2

from services.auth.tests.kit import (
    Ground,
    Person,
    SignedIn,
    World,
    a_name,
    an_id,
    credentials_with,
    ids_of,
    refused,
)
from services.common.testing.server import reason_of


def a_user(username: str = "", role: accounts_pb2.Role.ValueType = accounts_pb2.ROLE_USER) -> admin_pb2.User:
    return admin_pb2.User(id=str(an_id()), username=username or a_name("user"), role=role)


async def add(
    world: World, boss: SignedIn, user: admin_pb2.User, tenant_id: str = "", login_key: bytes = b"L" * 32
) -> admin_pb2.User:
    kdf = accounts_pb2.KdfParameters(salt=bytes(16), memory_kib=64 * 1024, iterations=3, lanes=4)
    credentials = accounts_pb2.Credentials(kdf=kdf, login_key=login_key, sealed_key=b"sealed")
    request = admin_pb2.AddUserRequest(user=user, credentials=credentials, tenant_id=tenant_id)
    return (await world.admin.AddUser(request, metadata=boss.metadata)).user


async def users_of(world: World, boss: SignedIn) -> list[admin_pb2.User]:
    return list((await world.admin.ListUsers(admin_pb2.ListUsersRequest(), metadata=boss.metadata)).users)


async def a_boss(world: World) -> SignedIn:
    return await world.signed_in(await world.a_tenant(), device=False)


async def the_first_boss(world: World) -> SignedIn:
    return await world.signed_in(await world.the_first_admin(), device=False)


async def test_an_administrator_adds_users_who_sign_in(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await a_boss(world)
        user = a_user("jo.doe_1@example-Test")
        made = await add(world, boss, user)
        assert (made.id, made.username, made.role, made.suspended) == (user.id, user.username, user.role, False)
        assert await add(world, boss, user) == made
        person = Person(boss.person.tenant_id, boss.person.tenant, user.id, user.username, b"L" * 32)
        await world.signed_in(person)
        assert sorted(row.username for row in await users_of(world, boss)) == ["admin", user.username]


async def test_taken_names_and_ids_are_refused(ground: Ground) -> None:
    async with ground.world() as world:
        boss, neighbour = await a_boss(world), await a_boss(world)
        user = await add(world, boss, a_user())
        with refused("NAME_TAKEN"):
            await add(world, boss, a_user(user.username))
        with refused("INVALID_ARGUMENT"):
            await add(world, boss, user, login_key=b"x" * 32)
        with refused("INVALID_ARGUMENT"):
            await add(world, neighbour, user)
        await add(world, neighbour, a_user(user.username))


async def test_names_that_cannot_be_are_refused(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await a_boss(world)
        for username in ("", "two words", "näme", "a/b", "x" * 256, "a\n"):
            user = a_user()
            user.username = username
            with refused("BAD_NAME"):
                await add(world, boss, user)
        with refused("INVALID_ARGUMENT"):
            await add(world, boss, a_user(role=accounts_pb2.ROLE_UNSPECIFIED))


async def test_a_user_is_no_administrator(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        with refused("NOT_ALLOWED"):
            await users_of(world, session)
        with refused("NOT_ALLOWED"):
            await add(world, session, a_user())
        with refused("NOT_ALLOWED"):
            await world.admin.ListTenants(admin_pb2.ListTenantsRequest(), metadata=session.metadata)


async def test_an_administrator_of_one_tenant_reaches_nothing_of_another(ground: Ground) -> None:
    async with ground.world() as world:
        boss, neighbour = await a_boss(world), await a_boss(world)
        user = await add(world, neighbour, a_user())
        with refused("NOT_FOUND"):
            await world.admin.SuspendUser(
                admin_pb2.SuspendUserRequest(user_id=user.id, suspended=True), metadata=boss.metadata
            )
        assert user.id not in ids_of(await users_of(world, boss))
        for tenant_id in (neighbour.person.tenant_id, str(an_id())):
            with refused("NOT_ALLOWED"):
                await add(world, boss, a_user(), tenant_id)
        with refused("NOT_ALLOWED"):
            await world.admin.ListTenants(admin_pb2.ListTenantsRequest(), metadata=boss.metadata)
        with refused("NOT_ALLOWED"):
            await world.admin.PutTemplate(
                admin_pb2.PutTemplateRequest(template=profiles_pb2.Template(name="mine", copies=1, ack_copies=1)),
                metadata=boss.metadata,
            )
        tenant = admin_pb2.AddTenantRequest(
            tenant=admin_pb2.Tenant(id=str(an_id()), name=a_name()),
            admin=a_user(),
            credentials=credentials_with(bytes(32)),
        )
        with refused("NOT_ALLOWED"):
            await world.admin.AddTenant(tenant, metadata=boss.metadata)


async def test_an_administrator_cannot_shut_out_itself(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await a_boss(world)
        with refused("INVALID_ARGUMENT"):
            await world.admin.SuspendUser(
                admin_pb2.SuspendUserRequest(user_id=boss.person.id, suspended=True), metadata=boss.metadata
            )


async def test_the_first_tenants_administrators_add_tenants_and_users_to_them(ground: Ground) -> None:
    async with ground.world() as world:
        root = await the_first_boss(world)
        request = admin_pb2.AddTenantRequest(
            tenant=admin_pb2.Tenant(id=str(an_id()), name=a_name("tenant")),
            admin=a_user("chief"),
            credentials=credentials_with(secrets.token_bytes(32)),
        )
        tenant = (await world.admin.AddTenant(request, metadata=root.metadata)).tenant
        assert (await world.admin.AddTenant(request, metadata=root.metadata)).tenant == tenant
        chief = Person(tenant.id, tenant.name, request.admin.id, "chief", request.credentials.login_key)
        boss = await world.signed_in(chief, device=False)
        added = await add(world, root, a_user(), tenant.id)
        assert added.id in ids_of(await users_of(world, boss))
        assert added.id not in ids_of(await users_of(world, root))
        with refused("NOT_FOUND"):
            await add(world, root, a_user(), str(an_id()))
        listed = await world.admin.ListTenants(admin_pb2.ListTenantsRequest(page_size=1000), metadata=root.metadata)
        assert {tenant.id, root.person.tenant_id} <= set(ids_of(listed.tenants))
        request.tenant.id, request.admin.id = str(an_id()), str(an_id())
        with refused("NAME_TAKEN"):
            await world.admin.AddTenant(request, metadata=root.metadata)


async def test_users_are_listed_in_pages(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await a_boss(world)
        for name in ("b", "B", "a", "_"):
            await add(world, boss, a_user(name))
        seen: list[str] = []
        token = "first"
        while token:
            request = admin_pb2.ListUsersRequest(page_size=2, page_token=token.removeprefix("first"))
            answer = await world.admin.ListUsers(request, metadata=boss.metadata)
            seen += [user.username for user in answer.users]
            token = answer.next_page_token
        assert seen == ["B", "_", "a", "admin", "b"]


async def test_there_is_one_first_administrator(ground: Ground) -> None:
    async with ground.world() as world:
        first = await world.the_first_admin()
        assert await world.the_first_admin() == first
        for name in (first.tenant, a_name()):
            request = admin_pb2.AddFirstAdminRequest(
                tenant=admin_pb2.Tenant(id=str(an_id()), name=name),
                admin=a_user(),
                credentials=credentials_with(bytes(32)),
            )
            with refused("ADMIN_EXISTS"):
                await world.setup.AddFirstAdmin(request)


async def test_templates_are_replaced_by_name_and_keep_their_id(ground: Ground) -> None:
    async with ground.world() as world:
        root = await the_first_boss(world)
        await world.a_template(root.person.tenant_id)
        template = profiles_pb2.Template(name=a_name("t"), cluster=world.cluster, copies=1, ack_copies=1)
        first = (await world.setup.PutTemplate(admin_pb2.PutTemplateRequest(template=template))).template
        template.copies, template.description = 3, "three copies"
        request = admin_pb2.PutTemplateRequest(template=template)
        second = (await world.admin.PutTemplate(request, metadata=root.metadata)).template
        assert (second.id, second.copies, second.description) == (first.id, 3, "three copies")
        for bad in (
            profiles_pb2.Template(name="t", cluster="nowhere", copies=1, ack_copies=1),
            profiles_pb2.Template(name="t", cluster=world.cluster, copies=1, ack_copies=2),
            profiles_pb2.Template(name="t", cluster=world.cluster),
        ):
            with refused("INVALID_ARGUMENT"):
                await world.setup.PutTemplate(admin_pb2.PutTemplateRequest(template=bad))
        with refused("INVALID_ARGUMENT"):
            await world.setup.PutStorageCluster(
                admin_pb2.PutStorageClusterRequest(name="c", internal_endpoints=["no port"])
            )


async def test_a_template_that_is_only_to_be_made_replaces_none_and_may_be_of_another_tenant(ground: Ground) -> None:
    async with ground.world() as world:
        root, boss = await the_first_boss(world), await a_boss(world)
        await world.a_template(root.person.tenant_id)
        made = profiles_pb2.Template(
            id=str(an_id()), name=a_name("t"), cluster=world.cluster, copies=1, ack_copies=1, quota_bytes=1 << 30
        )
        request = admin_pb2.PutTemplateRequest(template=made, tenant_id=boss.person.tenant_id, create_only=True)
        for _ in range(2):  # the same again is the same call
            assert (await world.admin.PutTemplate(request, metadata=root.metadata)).template == made
        other = profiles_pb2.Template()
        other.CopyFrom(made)
        other.id, other.quota_bytes = str(an_id()), 0
        for service, metadata in ((world.admin, root.metadata), (world.setup, None)):
            with refused("NAME_TAKEN"):
                await service.PutTemplate(
                    admin_pb2.PutTemplateRequest(template=other, tenant_id=boss.person.tenant_id, create_only=True),
                    metadata=metadata,
                )
        listed = await world.profiles.ListTemplates(profiles_pb2.ListTemplatesRequest(), metadata=boss.metadata)
        assert list(listed.templates) == [made]
        request.tenant_id = str(an_id())
        with refused("NOT_FOUND"):
            await world.admin.PutTemplate(request, metadata=root.metadata)


async def test_a_vaults_quota_is_another_in_its_next_tokens(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault, other = await world.a_vault(session), await world.a_vault(session)

        async def quotas() -> dict[str, int]:
            listed = await world.profiles.ListVaults(profiles_pb2.ListVaultsRequest(), metadata=session.metadata)
            return {one.id: one.quota_bytes for one in listed.vaults}

        assert await quotas() == {vault.id: 0, other.id: 0}
        await world.setup.SetVaultQuota(admin_pb2.SetVaultQuotaRequest(bucket_id=vault.bucket_id, bytes=5000))
        assert await quotas() == {vault.id: 5000, other.id: 0}
        asked = profiles_pb2.IssueVaultTokenRequest(vault_id=vault.id, scopes=["read"])
        token = (await world.profiles.IssueVaultToken(asked, metadata=session.metadata)).token
        assert jwt.decode(token, options={"verify_signature": False})["quota"] == 5000
        with refused("NOT_FOUND"):
            await world.setup.SetVaultQuota(admin_pb2.SetVaultQuotaRequest(bucket_id=str(an_id()), bytes=1))
        with refused("INVALID_ARGUMENT"):
            await world.setup.SetVaultQuota(admin_pb2.SetVaultQuotaRequest(bucket_id=vault.bucket_id, bytes=1 << 63))


async def test_set_up_is_for_operators_inside_alone(ground: Ground) -> None:
    async with ground.world() as world:
        from oort.auth.v1 import admin_pb2_grpc

        request = admin_pb2.PutStorageClusterRequest(name="c", internal_endpoints=["localhost:1"])
        async with world.endpoints.internal_channel("storage", "node-1") as channel:
            with refused("NOT_ALLOWED"):
                await admin_pb2_grpc.SetupServiceStub(channel).PutStorageCluster(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await admin_pb2_grpc.SetupServiceStub(world.channel).PutStorageCluster(request)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert reason_of(caught.value) == ""
