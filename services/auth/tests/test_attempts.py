import asyncio

import grpc
import pytest
from oort.auth.v1 import accounts_pb2

from services.auth.attempts import Attempts, network_of
from services.auth.credentials import Prover
from services.auth.errors import TooManyAttempts, WrongCredentials
from services.auth.tests.kit import PEPPER, Ground, World, a_name, credentials_with, refused
from services.common.testing.server import reason_of


async def fail(attempts: Attempts, account: str, address: str = "192.0.2.1") -> None:
    with pytest.raises(WrongCredentials):
        async with attempts.one(account, address):
            raise WrongCredentials


async def wait_after(attempts: Attempts, account: str) -> int:
    """Seconds that an attempt has to wait now; 0 when it is let through, and then it fails."""
    try:
        await fail(attempts, account)
    except TooManyAttempts as refusal:
        return int(str(refusal.fields["seconds"]))
    return 0


def attempts_of(world: World) -> Attempts:
    return Attempts(world.db, world.clock, Prover(PEPPER))


async def test_the_delay_doubles_after_five_failures_up_to_a_quarter_of_an_hour(ground: Ground) -> None:
    async with ground.world() as world:
        attempts, account = attempts_of(world), a_name()
        for _ in range(5):
            assert await wait_after(attempts, account) == 0
        waits = []
        for _ in range(13):
            waits.append(await wait_after(attempts, account))
            world.clock.jump(waits[-1])
            assert await wait_after(attempts, account) == 0
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


async def test_a_success_forgets_failures_and_so_does_a_day(ground: Ground) -> None:
    async with ground.world() as world:
        attempts, account = attempts_of(world), a_name()
        for _ in range(5):
            await fail(attempts, account)
        world.clock.jump(1)
        async with attempts.one(account, "192.0.2.1"):
            pass
        for _ in range(5):
            assert await wait_after(attempts, account) == 0
        assert await wait_after(attempts, account) == 1
        world.clock.jump(86401)
        for _ in range(5):
            assert await wait_after(attempts, account) == 0
        world.clock.jump(86401)
        assert await attempts.forget_old() >= 1


async def test_another_address_and_another_account_are_not_locked_out(ground: Ground) -> None:
    async with ground.world() as world:
        attempts, account = attempts_of(world), a_name()
        for _ in range(5):
            await fail(attempts, account)
        assert await wait_after(attempts, account) == 1
        await fail(attempts, account, "192.0.2.2")
        await fail(attempts, a_name())


async def test_many_guesses_at_once_count_as_many(ground: Ground) -> None:
    async with ground.world() as world, ground.world(clock=world.clock) as replica:
        user = await world.a_user()

        async def guess(there: World) -> str:
            try:
                await there.log_in(user, login_key=bytes(32))
            except grpc.aio.AioRpcError as error:
                return reason_of(error)
            return "signed in"

        reasons = await asyncio.gather(*(guess(there) for there in (world, replica) for _ in range(10)))
        assert sorted(set(reasons)) == ["TOO_MANY_ATTEMPTS", "WRONG_CREDENTIALS"]
        assert reasons.count("WRONG_CREDENTIALS") == 5
        with refused("TOO_MANY_ATTEMPTS"):
            await world.log_in(user)
        world.clock.jump(1)
        await world.log_in(user)


async def test_names_that_do_not_exist_are_locked_out_alike(ground: Ground) -> None:
    async with ground.world() as world:
        user = await world.a_user()
        user.username = a_name("nobody")
        for _ in range(5):
            with refused("WRONG_CREDENTIALS"):
                await world.log_in(user)
        with refused("TOO_MANY_ATTEMPTS"):
            await world.log_in(user)


async def test_guesses_at_the_recovery_code_and_in_a_signed_in_session_count_too(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        person = session.person
        seal = accounts_pb2.GetRecoverySealRequest(
            tenant=person.tenant, username=person.username, recovery_key=bytes(32)
        )
        change = accounts_pb2.ChangePasswordRequest(login_key=bytes(32), credentials=credentials_with(b"n" * 32))
        for _ in range(3):
            with refused("WRONG_CREDENTIALS"):
                await world.accounts.GetRecoverySeal(seal)
        for _ in range(2):
            with refused("WRONG_CREDENTIALS"):
                await world.accounts.ChangePassword(change, metadata=session.metadata)
        with refused("TOO_MANY_ATTEMPTS"):
            await world.log_in(person)
        with refused("TOO_MANY_ATTEMPTS"):
            await world.accounts.ChangePassword(change, metadata=session.metadata)
        with refused("TOO_MANY_ATTEMPTS"):
            await world.accounts.GetRecoverySeal(seal)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1"),
        ("unix:/run/oort.sock", "unix:/run/oort.sock"),
    ],
)
def test_who_is_counted_is_the_address_without_its_port(peer: str, network: str) -> None:
    assert network_of(peer) == network
