import secrets
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.auth.v1 import accounts_pb2, admin_pb2, devices_pb2

from services.auth.logins import DEVICE_LOGIN
from services.auth.tests.kit import Ground, SignedIn, World, a_device, a_name, an_id, refused

WHO = accounts_pb2.GetAccountRequest()


async def parameters(world: World, tenant: str, username: str) -> accounts_pb2.KdfParameters:
    request = accounts_pb2.GetLoginParametersRequest(tenant=tenant, username=username)
    return (await world.accounts.GetLoginParameters(request)).kdf


async def device_login(world: World, session: SignedIn, key: Ed25519PrivateKey) -> accounts_pb2.LoginResponse:
    begun = await world.accounts.BeginDeviceLogin(accounts_pb2.BeginDeviceLoginRequest(device_id=session.device))
    return await world.accounts.DeviceLogin(
        accounts_pb2.DeviceLoginRequest(
            device_id=session.device, challenge=begun.challenge, signature=key.sign(DEVICE_LOGIN + begun.challenge)
        )
    )


async def test_a_user_signs_in_and_is_told_who_it_is(ground: Ground) -> None:
    async with ground.world() as world:
        user = await world.a_user()
        answer = await world.log_in(user, a_device())
        assert (answer.tenant_id, answer.user_id) == (user.tenant_id, user.id)
        assert answer.sealed_key == b"K sealed under R"
        metadata = (("authorization", f"Bearer {answer.session_token}"),)
        account = await world.accounts.GetAccount(WHO, metadata=metadata)
        assert (account.username, account.tenant, account.role) == (
            user.username,
            user.tenant,
            accounts_pb2.ROLE_USER,
        )
        assert not account.has_recovery


async def test_the_empty_tenant_is_the_first_one(ground: Ground) -> None:
    async with ground.world() as world:
        root = await world.the_first_admin()
        named = await parameters(world, root.tenant, root.username)
        root.tenant = ""
        assert (await world.log_in(root)).tenant_id == root.tenant_id
        assert await parameters(world, "", root.username) == named
        nobody = a_name()
        assert await parameters(world, "", nobody) == await parameters(world, "first", nobody)


async def test_unknown_users_have_false_parameters_that_stay_the_same(ground: Ground) -> None:
    async with ground.world() as world, ground.world() as replica:
        user = await world.a_user()
        nobody = a_name()
        false = await parameters(world, user.tenant, nobody)
        real = await parameters(world, user.tenant, user.username)
        assert (len(false.salt), false.memory_kib, false.iterations, false.lanes) == (
            len(real.salt),
            real.memory_kib,
            real.iterations,
            real.lanes,
        )
        assert false == await parameters(replica, user.tenant, nobody)
        assert false.salt != (await parameters(world, user.tenant, a_name())).salt
        assert false.salt != (await parameters(world, a_name("tenant"), nobody)).salt


async def test_a_wrong_password_an_unknown_user_and_an_unknown_tenant_are_refused_alike(ground: Ground) -> None:
    said: set[str] = set()
    async with ground.world() as world:
        user = await world.a_user()
        guess = secrets.token_bytes(32)
        for tenant, username in (
            (user.tenant, user.username),
            (user.tenant, a_name()),
            (a_name(), user.username),
            (user.tenant, user.username.upper()),
            ("", user.username),
        ):
            request = accounts_pb2.LoginRequest(tenant=tenant, username=username, login_key=guess)
            with refused("WRONG_CREDENTIALS") as refusal:
                await world.accounts.Login(request)
            said.add(refusal.details)
        assert len(said) == 1
        with refused("INVALID_ARGUMENT"):
            await world.log_in(user, login_key=b"short")
        with refused("INVALID_ARGUMENT"):
            await world.accounts.Login(accounts_pb2.LoginRequest(username="a\0b", login_key=guess))


async def test_a_call_without_a_session_or_with_a_false_one_is_refused(ground: Ground) -> None:
    async with ground.world() as world:
        with refused("NOT_SIGNED_IN"):
            await world.accounts.GetAccount(WHO)
        with refused("NOT_SIGNED_IN"):
            await world.accounts.GetAccount(WHO, metadata=(("authorization", f"Bearer {'0' * 64}"),))


async def test_a_session_holds_on_every_replica(ground: Ground) -> None:
    async with ground.world() as world, ground.world() as replica:
        session = await world.a_signed_in_user()
        account = await replica.accounts.GetAccount(WHO, metadata=session.metadata)
        assert account.user_id == session.person.id


async def test_a_device_session_lives_thirty_days_and_a_deviceless_one_half_an_hour_from_the_last_call(
    ground: Ground,
) -> None:
    async with ground.world() as world:
        user = await world.a_user()
        for device, idle in ((True, 30 * 86400), (False, 1800)):
            session = await world.signed_in(user, device=device)
            key = f"oort:auth:session:{sha256(session.token.encode()).hexdigest()}"
            assert idle - 300 <= await world.redis.ttl(key) <= idle
            await world.redis.expire(key, 60)
            await world.accounts.GetAccount(WHO, metadata=session.metadata)
            assert idle - 300 <= await world.redis.ttl(key) <= idle


async def test_a_wiped_redis_only_makes_people_sign_in_again(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.redis.flushdb()
        with refused("NOT_SIGNED_IN"):
            await world.accounts.GetAccount(WHO, metadata=session.metadata)
        again = await device_login(world, session, session.key)
        assert (again.user_id, again.device_id, again.sealed_key) == (session.person.id, session.device, b"")
        await world.log_in(session.person)


async def test_a_device_signs_in_by_its_key_and_a_challenge_is_good_once(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        begun = await world.accounts.BeginDeviceLogin(accounts_pb2.BeginDeviceLoginRequest(device_id=session.device))
        proof = accounts_pb2.DeviceLoginRequest(
            device_id=session.device,
            challenge=begun.challenge,
            signature=session.key.sign(DEVICE_LOGIN + begun.challenge),
        )
        answer = await world.accounts.DeviceLogin(proof)
        assert answer.user_id == session.person.id
        with refused("NOT_SIGNED_IN"):
            await world.accounts.DeviceLogin(proof)
        with refused("WRONG_CREDENTIALS"):
            await device_login(world, session, Ed25519PrivateKey.generate())


async def test_a_challenge_lives_a_minute_and_is_for_one_device(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        other = await world.signed_in(session.person)
        begun = await world.accounts.BeginDeviceLogin(accounts_pb2.BeginDeviceLoginRequest(device_id=session.device))
        lives = [await world.redis.ttl(key) async for key in world.redis.scan_iter("oort:auth:challenge:*")]
        assert max(lives) > 0
        # Those of others end meanwhile (-2), and none has no end (-1).
        assert all(life != -1 and life <= 60 for life in lives)
        with refused("NOT_SIGNED_IN"):
            await world.accounts.DeviceLogin(
                accounts_pb2.DeviceLoginRequest(
                    device_id=other.device,
                    challenge=begun.challenge,
                    signature=other.key.sign(DEVICE_LOGIN + begun.challenge),
                )
            )


async def test_an_unknown_device_cannot_be_told_from_a_known_one_before_it_signs(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        session.device = str(an_id())
        with refused("DEVICE_UNKNOWN"):
            await device_login(world, session, session.key)


async def test_signing_in_again_refreshes_a_device_but_never_changes_its_key(ground: Ground) -> None:
    async with ground.world() as world:
        user = await world.a_user()
        device = a_device(client_version="1.0", name="laptop")
        await world.log_in(user, device)
        device.client_version, device.name = "1.1", "renamed by itself"
        session = await world.log_in(user, device)
        metadata = (("authorization", f"Bearer {session.session_token}"),)
        (listed,) = (await world.devices.ListDevices(devices_pb2.ListDevicesRequest(), metadata=metadata)).devices
        assert (listed.client_version, listed.name, listed.current) == ("1.1", "laptop", True)
        with refused("INVALID_ARGUMENT"):
            await world.log_in(user, a_device(id=device.id))


async def test_a_device_of_one_user_is_no_device_of_another(ground: Ground) -> None:
    async with ground.world() as world:
        owner, thief = await world.a_user(), await world.a_user()
        device = a_device()
        await world.log_in(owner, device)
        with refused("INVALID_ARGUMENT"):
            await world.log_in(thief, device)


async def test_logging_out_ends_the_session_and_may_remove_the_device(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.accounts.Logout(accounts_pb2.LogoutRequest(), metadata=session.metadata)
        with refused("NOT_SIGNED_IN"):
            await world.accounts.GetAccount(WHO, metadata=session.metadata)
        session.token = (await device_login(world, session, session.key)).session_token
        await world.accounts.Logout(accounts_pb2.LogoutRequest(remove_device=True), metadata=session.metadata)
        with refused("DEVICE_UNKNOWN"):
            await device_login(world, session, session.key)


async def test_a_revoked_device_is_refused_at_its_next_call(ground: Ground) -> None:
    async with ground.world() as world:
        lost = await world.a_signed_in_user()
        other = await world.signed_in(lost.person)
        await world.devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=lost.device), metadata=other.metadata)
        with refused("DEVICE_UNKNOWN"):
            await world.accounts.GetAccount(WHO, metadata=lost.metadata)
        with refused("DEVICE_UNKNOWN"):
            await device_login(world, lost, lost.key)
        with refused("DEVICE_UNKNOWN"):
            await world.log_in(lost.person, a_device(lost.key, id=lost.device))
        await world.accounts.GetAccount(WHO, metadata=other.metadata)


async def test_a_suspended_user_is_refused_at_once_and_welcome_again_when_let_in(ground: Ground) -> None:
    async with ground.world() as world:
        admin = await world.a_tenant()
        session = await world.signed_in(await world.a_user(admin))
        boss = await world.signed_in(admin, device=False)

        async def suspend(suspended: bool) -> None:
            request = admin_pb2.SuspendUserRequest(user_id=session.person.id, suspended=suspended)
            await world.admin.SuspendUser(request, metadata=boss.metadata)

        await suspend(suspended=True)
        with refused("SUSPENDED"):
            await world.accounts.GetAccount(WHO, metadata=session.metadata)
        with refused("SUSPENDED"):
            await device_login(world, session, session.key)
        with refused("SUSPENDED"):
            await world.log_in(session.person)
        with refused("WRONG_CREDENTIALS"):
            await world.log_in(session.person, login_key=bytes(32))
        await suspend(suspended=False)
        await world.accounts.GetAccount(WHO, metadata=session.metadata)
