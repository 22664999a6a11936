from oort.auth.v1 import devices_pb2, profiles_pb2

from services.auth.tests.kit import Ground, SignedIn, World, an_id, ids_of, refused


async def put(world: World, session: SignedIn, item_id: str, sealed: bytes, version: int = 0) -> profiles_pb2.Item:
    item = profiles_pb2.Item(id=item_id, engine="engine1/file", sealed=sealed, version=version)
    return (await world.profiles.PutItem(profiles_pb2.PutItemRequest(item=item), metadata=session.metadata)).item


async def items_of(world: World, session: SignedIn, *, all_devices: bool = False) -> list[profiles_pb2.Item]:
    request = profiles_pb2.ListItemsRequest(all_devices=all_devices)
    return list((await world.profiles.ListItems(request, metadata=session.metadata)).items)


async def devices_of(world: World, session: SignedIn) -> list[devices_pb2.RegisteredDevice]:
    answer = await world.devices.ListDevices(devices_pb2.ListDevicesRequest(), metadata=session.metadata)
    return list(answer.devices)


async def test_an_item_is_created_replaced_and_refused_when_stale(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        item_id = str(an_id())
        first = await put(world, session, item_id, b"one")
        assert (first.version, first.device_id, first.engine) == (1, session.device, "engine1/file")
        assert await put(world, session, item_id, b"one") == first
        second = await put(world, session, item_id, b"two", version=1)
        assert second.version == 2
        assert await put(world, session, item_id, b"two", version=1) == second
        with refused("STALE_VERSION"):
            await put(world, session, item_id, b"three", version=1)
        with refused("STALE_VERSION"):
            await put(world, session, item_id, b"three")
        with refused("NOT_FOUND"):
            await put(world, session, str(an_id()), b"three", version=1)
        assert [item.sealed for item in await items_of(world, session)] == [b"two"]


async def test_items_are_of_one_device_and_listed_for_all_when_asked(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        other = await world.signed_in(session.person)
        mine, theirs = await put(world, session, str(an_id()), b"mine"), await put(world, other, str(an_id()), b"its")
        assert ids_of(await items_of(world, session)) == [mine.id]
        assert sorted(ids_of(await items_of(world, session, all_devices=True))) == sorted([mine.id, theirs.id])
        with refused("NOT_ALLOWED"):
            await put(world, session, theirs.id, b"changed", version=1)
        web = await world.signed_in(session.person, device=False)
        assert len(await items_of(world, web)) == 2
        with refused("NOT_ALLOWED"):
            await put(world, web, str(an_id()), b"of no device")


async def test_a_page_of_large_items_stays_below_the_bound_of_a_message(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        for _ in range(20):
            await put(world, session, str(an_id()), bytes(256 << 10))
        with refused("INVALID_ARGUMENT"):
            await put(world, session, str(an_id()), bytes((256 << 10) + 1))
        seen: list[str] = []
        token = "first"
        while token:
            request = profiles_pb2.ListItemsRequest(page_token=token.removeprefix("first"))
            answer = await world.profiles.ListItems(request, metadata=session.metadata)
            seen += ids_of(answer.items)
            token = answer.next_page_token
        assert len(seen) == len(set(seen)) == 20


async def test_a_deleted_item_is_gone_and_deleting_it_again_changes_nothing(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        item = await put(world, session, str(an_id()), b"one")
        for _ in range(2):
            request = profiles_pb2.DeleteItemRequest(id=item.id)
            await world.profiles.DeleteItem(request, metadata=session.metadata)
        assert await items_of(world, session) == []


async def test_devices_are_listed_renamed_and_revoked_with_their_items(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        lost = await world.signed_in(session.person)
        await put(world, lost, str(an_id()), b"one")
        await world.devices.RenameDevice(
            devices_pb2.RenameDeviceRequest(id=lost.device, name="old laptop"), metadata=session.metadata
        )
        listed = {device.id: device for device in await devices_of(world, session)}
        assert listed[lost.device].name == "old laptop"
        assert [device.id for device in listed.values() if device.current] == [session.device]
        for _ in range(2):
            await world.devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=lost.device), metadata=session.metadata)
        assert ids_of(await devices_of(world, session)) == [session.device]
        assert await items_of(world, session, all_devices=True) == []
        with refused("NOT_FOUND"):
            await world.devices.RenameDevice(
                devices_pb2.RenameDeviceRequest(id=lost.device, name="again"), metadata=session.metadata
            )
        with refused("BAD_NAME"):
            await world.devices.RenameDevice(
                devices_pb2.RenameDeviceRequest(id=session.device, name="\t"), metadata=session.metadata
            )


async def test_a_device_is_seen_when_it_calls_noted_every_five_minutes(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        (before,) = await devices_of(world, session)
        world.clock.jump(60)
        assert (await devices_of(world, session))[0].last_seen == before.last_seen
        world.clock.jump(300)
        (after,) = await devices_of(world, session)
        assert after.last_seen.seconds - before.last_seen.seconds == 360
