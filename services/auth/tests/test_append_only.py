"""Devices that may only add: what they are refused, and that only others can let them do more."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from oort.auth.v1 import accounts_pb2, admin_pb2, devices_pb2, profiles_pb2

from domain.sessions import Scope
from services.auth.tests.kit import Ground, SignedIn, World, a_device, an_id, refused
from services.auth.tests.test_rest_access import a_vault, exchange, issue

ALL = [scope.value for scope in Scope]


@asynccontextmanager
async def two_devices(ground: Ground) -> AsyncIterator[tuple[World, SignedIn, SignedIn, str]]:
    """A full device, one that may only add, and a vault of both."""
    async with ground.world() as world:
        full = await world.a_signed_in_user()
        vault = await a_vault(world, full)
        limited = await world.signed_in(full.person)
        await limit(world, limited, limited)
        yield world, full, limited, vault


async def limit(world: World, session: SignedIn, device: SignedIn, *, append_only: bool = True) -> None:
    request = devices_pb2.SetAppendOnlyRequest(id=device.device, append_only=append_only)
    await world.devices.SetAppendOnly(request, metadata=session.metadata)


async def scopes_of(world: World, session: SignedIn, vault: str, asked: list[str]) -> list[str]:
    request = profiles_pb2.IssueVaultTokenRequest(vault_id=vault, scopes=asked)
    return list((await world.profiles.IssueVaultToken(request, metadata=session.metadata)).scopes)


async def limited_devices(world: World, session: SignedIn) -> set[str]:
    answer = await world.devices.ListDevices(devices_pb2.ListDevicesRequest(), metadata=session.metadata)
    return {one.id for one in answer.devices if one.append_only}


async def test_its_tokens_have_no_scope_to_delete(ground: Ground) -> None:
    async with two_devices(ground) as (world, full, limited, vault):
        assert await scopes_of(world, full, vault, ALL) == sorted(ALL)
        assert await scopes_of(world, limited, vault, ALL) == ["append", "read"]
        with refused("APPEND_ONLY"):
            await scopes_of(world, limited, vault, ["delete"])
        assert await limited_devices(world, full) == {limited.device}


async def test_its_urls_remove_nothing_also_those_that_it_had_before(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await a_vault(world, session)
        before = await issue(world, session, vault)
        await limit(world, session, session)
        assert (await exchange(world, before.username, before.password)).scopes == {Scope.READ, Scope.APPEND}
        with refused("APPEND_ONLY"):
            await issue(world, session, vault)
        made = await issue(world, session, vault, append_only=True)
        assert (await exchange(world, made.username, made.password)).scopes == {Scope.READ, Scope.APPEND}


async def test_it_does_not_let_itself_do_more_however_it_signs_in(ground: Ground) -> None:
    async with two_devices(ground) as (world, full, limited, vault):
        with refused("APPEND_ONLY"):
            await limit(world, limited, limited, append_only=False)
        presented = a_device(limited.key, id=limited.device)
        answer = await world.log_in(limited.person, presented)
        again = SignedIn(limited.person, answer.session_token, limited.device, limited.key)
        with refused("APPEND_ONLY"):
            await limit(world, again, again, append_only=False)
        assert await scopes_of(world, again, vault, ALL) == ["append", "read"]
        await limit(world, full, limited, append_only=False)
        assert await scopes_of(world, again, vault, ALL) == sorted(ALL)


async def test_a_device_may_only_add_from_the_login_that_says_so(ground: Ground) -> None:
    async with ground.world() as world:
        full = await world.a_signed_in_user()
        vault = await a_vault(world, full)
        presented = a_device(append_only=True)
        answer = await world.log_in(full.person, presented)
        new = SignedIn(full.person, answer.session_token, presented.id, full.key)
        assert await scopes_of(world, new, vault, ALL) == ["append", "read"]
        await world.log_in(full.person, a_device(full.key, id=full.device, append_only=True))
        assert await scopes_of(world, full, vault, ALL) == ["append", "read"]


async def test_it_changes_nothing_by_which_others_would_remove(ground: Ground) -> None:
    async with two_devices(ground) as (world, full, limited, vault):
        key = profiles_pb2.SetVaultKeyRequest(vault_id=vault, sealed_key=b"E")
        await world.profiles.SetVaultKey(key, metadata=full.metadata)
        put = profiles_pb2.PutItemRequest(item=profiles_pb2.Item(id=str(an_id()), engine="files", sealed=b"s"))
        item = (await world.profiles.PutItem(put, metadata=full.metadata)).item
        policy = profiles_pb2.RetentionPolicy(mode=802, ranges=[profiles_pb2.RetentionRange(type=900, jobs=1)])
        profiles, devices, metadata = world.profiles, world.devices, limited.metadata
        calls: list[Awaitable[object]] = [
            profiles.SetRetention(profiles_pb2.SetRetentionRequest(vault_id=vault, policy=policy), metadata=metadata),
            profiles.RemoveVault(profiles_pb2.RemoveVaultRequest(vault_id=vault), metadata=metadata),
            profiles.RevokeRestAccess(profiles_pb2.RevokeRestAccessRequest(vault_id=vault), metadata=metadata),
            profiles.SetVaultKey(
                profiles_pb2.SetVaultKeyRequest(vault_id=vault, sealed_key=b"another", replaces=b"E"),
                metadata=metadata,
            ),
            profiles.SetVaultPlace(
                profiles_pb2.SetVaultPlaceRequest(vault_id=vault, sealed_place=b"another", replaces=b"place"),
                metadata=metadata,
            ),
            profiles.DeleteItem(profiles_pb2.DeleteItemRequest(id=item.id), metadata=metadata),
            devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=full.device), metadata=metadata),
            devices.RenameDevice(devices_pb2.RenameDeviceRequest(id=full.device, name="x"), metadata=metadata),
            limit(world, limited, full),
        ]
        for call in calls:
            with refused("APPEND_ONLY"):
                await call


async def test_it_goes_on_with_what_is_its_own(ground: Ground) -> None:
    async with two_devices(ground) as (world, _full, limited, _vault):
        put = profiles_pb2.PutItemRequest(item=profiles_pb2.Item(id=str(an_id()), engine="files", sealed=b"s"))
        item = (await world.profiles.PutItem(put, metadata=limited.metadata)).item
        await world.profiles.DeleteItem(profiles_pb2.DeleteItemRequest(id=item.id), metadata=limited.metadata)
        rename = devices_pb2.RenameDeviceRequest(id=limited.device, name="other name")
        await world.devices.RenameDevice(rename, metadata=limited.metadata)
        await limit(world, limited, limited)
        await world.accounts.Logout(accounts_pb2.LogoutRequest(remove_device=True), metadata=limited.metadata)


async def test_an_administrator_administers_from_no_device_that_may_only_add(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.signed_in(await world.a_tenant())
        await world.admin.ListUsers(admin_pb2.ListUsersRequest(), metadata=session.metadata)
        await limit(world, session, session)
        with refused("APPEND_ONLY"):
            await world.admin.ListUsers(admin_pb2.ListUsersRequest(), metadata=session.metadata)
