import secrets

from oort.auth.v1 import accounts_pb2

from services.auth.tests.kit import Ground, SignedIn, World, credentials_with, refused

WHO = accounts_pb2.GetAccountRequest()


async def change(
    world: World, session: SignedIn, new: accounts_pb2.Credentials, login_key: bytes | None = None
) -> None:
    request = accounts_pb2.ChangePasswordRequest(
        login_key=session.person.login_key if login_key is None else login_key, credentials=new
    )
    await world.accounts.ChangePassword(request, metadata=session.metadata)


async def set_recovery(world: World, session: SignedIn, recovery_key: bytes, seal: bytes = b"K under code") -> None:
    request = accounts_pb2.SetRecoveryRequest(
        login_key=session.person.login_key, recovery_key=recovery_key, sealed_key=seal
    )
    await world.accounts.SetRecovery(request, metadata=session.metadata)


async def test_a_new_password_brings_its_parameters_and_seal_and_leaves_other_devices_signed_in(
    ground: Ground,
) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        other = await world.signed_in(session.person)
        new = credentials_with(secrets.token_bytes(32), b"K sealed under the new R")
        await change(world, session, new)
        with refused("WRONG_CREDENTIALS"):
            await world.log_in(session.person)
        answer = await world.log_in(session.person, login_key=new.login_key)
        assert answer.sealed_key == b"K sealed under the new R"
        asked = accounts_pb2.GetLoginParametersRequest(tenant=session.person.tenant, username=session.person.username)
        assert (await world.accounts.GetLoginParameters(asked)).kdf == new.kdf
        for device in (session, other):
            await world.accounts.GetAccount(WHO, metadata=device.metadata)


async def test_a_password_is_not_changed_without_the_present_one(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        with refused("WRONG_CREDENTIALS"):
            await change(world, session, credentials_with(secrets.token_bytes(32)), login_key=bytes(32))
        assert (await world.log_in(session.person)).sealed_key == b"K sealed under R"


async def test_a_repeated_change_is_the_same_change(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        new = credentials_with(secrets.token_bytes(32))
        await change(world, session, new)
        await change(world, session, new)
        await world.log_in(session.person, login_key=new.login_key)


async def test_a_change_ends_web_sessions_but_not_the_one_that_made_it(ground: Ground) -> None:
    async with ground.world() as world:
        user = await world.a_user()
        mine, forgotten = await world.signed_in(user, device=False), await world.signed_in(user, device=False)
        world.clock.jump(1)
        await change(world, mine, credentials_with(secrets.token_bytes(32)))
        await world.accounts.GetAccount(WHO, metadata=mine.metadata)
        with refused("NOT_SIGNED_IN"):
            await world.accounts.GetAccount(WHO, metadata=forgotten.metadata)


async def test_credentials_out_of_bounds_are_refused_and_change_nothing(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        good = credentials_with(secrets.token_bytes(32))
        for field, value in (("memory_kib", 1024), ("iterations", 1), ("lanes", 0), ("salt", b"short")):
            bad = accounts_pb2.Credentials()
            bad.CopyFrom(good)
            setattr(bad.kdf, field, value)
            with refused("INVALID_ARGUMENT"):
                await change(world, session, bad)
        with refused("INVALID_ARGUMENT"):
            await change(world, session, credentials_with(b"short"))
        with refused("INVALID_ARGUMENT"):
            await change(world, session, credentials_with(good.login_key, b""))
        with refused("INVALID_ARGUMENT"):
            await change(world, session, credentials_with(good.login_key, bytes(100_000)))
        await world.log_in(session.person)


async def test_who_has_the_recovery_code_gets_the_seal_and_sets_a_new_password(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        code = secrets.token_bytes(32)
        await set_recovery(world, session, code)
        account = await world.accounts.GetAccount(WHO, metadata=session.metadata)
        assert account.has_recovery
        asked = accounts_pb2.GetRecoverySealRequest(
            tenant=session.person.tenant, username=session.person.username, recovery_key=code
        )
        seal = await world.accounts.GetRecoverySeal(asked)
        assert (seal.user_id, seal.sealed_key) == (session.person.id, b"K under code")
        new = credentials_with(secrets.token_bytes(32))
        reset = accounts_pb2.ResetPasswordRequest(
            tenant=session.person.tenant, username=session.person.username, recovery_key=code, credentials=new
        )
        await world.accounts.ResetPassword(reset)
        await world.accounts.ResetPassword(reset)
        await world.log_in(session.person, login_key=new.login_key)
        await world.accounts.GetAccount(WHO, metadata=session.metadata)
        assert (await world.accounts.GetRecoverySeal(asked)).sealed_key == b"K under code"


async def test_a_wrong_or_former_recovery_code_opens_nothing(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        former, code = secrets.token_bytes(32), secrets.token_bytes(32)
        person = session.person

        async def ask(recovery_key: bytes, username: str = person.username) -> None:
            await world.accounts.GetRecoverySeal(
                accounts_pb2.GetRecoverySealRequest(tenant=person.tenant, username=username, recovery_key=recovery_key)
            )

        with refused("WRONG_CREDENTIALS"):
            await ask(code)
        await set_recovery(world, session, former)
        await set_recovery(world, session, code)
        with refused("WRONG_CREDENTIALS"):
            await ask(former)
        with refused("WRONG_CREDENTIALS"):
            await ask(code, "nobody")
        with refused("WRONG_CREDENTIALS"):
            await world.accounts.ResetPassword(
                accounts_pb2.ResetPasswordRequest(
                    tenant=person.tenant,
                    username=person.username,
                    recovery_key=former,
                    credentials=credentials_with(secrets.token_bytes(32)),
                )
            )
        await world.log_in(person)


async def test_a_stolen_session_cannot_plant_a_recovery_code(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        right = session.person.login_key
        session.person.login_key = bytes(32)
        with refused("WRONG_CREDENTIALS"):
            await set_recovery(world, session, secrets.token_bytes(32))
        session.person.login_key = right
        assert not (await world.accounts.GetAccount(WHO, metadata=session.metadata)).has_recovery
