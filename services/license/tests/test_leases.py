"""Who gets a lease, over gRPC and in Postgres."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest

from services.common.lease_request import Purpose
from services.common.testing.server import reason_of
from services.license.tests.conftest import GRACE, LIFE, Installation, StartRole, a_serial

DAY = 24 * 3600.0
MakeInstallation = Callable[..., Installation]


async def test_an_instance_gets_a_lease_bound_to_all_that_it_said(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        installation = an_installation()
        await role.put_serial(installation.serial)
        identity = installation.identity()
        lease = await role.acquire(identity)
        assert lease.bond == identity.bond
        assert lease.issued == role.clock.now().replace(microsecond=0)
        assert lease.expires - lease.issued == LIFE
        assert lease.grace_ends - lease.expires == GRACE


async def test_all_instances_of_one_installation_run_under_one_serial_and_renew(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        installation = an_installation()
        await role.put_serial(installation.serial)
        for instance in ("one", "two"):
            await role.acquire(installation.identity(instance=instance))
        role.clock.jump(DAY / 3)
        renewed = await role.acquire(installation.identity(instance="one", fingerprint="ef" * 32))
        assert renewed.bond.fingerprint == "ef" * 32
        assert renewed.expires == role.clock.now().replace(microsecond=0) + LIFE


async def test_an_unknown_serial_is_refused(license_role: StartRole, an_installation: MakeInstallation) -> None:
    async with license_role() as role:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.acquire(an_installation().identity())
        assert reason_of(refused.value) == "NO_SUCH_SERIAL"
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_no_other_installation_gets_the_serial_before_lease_and_grace_are_over(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        serial = a_serial()
        await role.put_serial(serial)
        first, second = an_installation(serial), an_installation(serial)
        lease = await role.acquire(first.identity())
        role.clock.jump((LIFE + GRACE - timedelta(minutes=1)).total_seconds())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.acquire(second.identity())
        assert reason_of(refused.value) == "SERIAL_IN_USE"
        assert "until" in (refused.value.details() or "")
        role.clock.jump(61)
        assert role.clock.now() >= lease.grace_ends
        await role.acquire(second.identity())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.acquire(first.identity())
        assert reason_of(refused.value) == "SERIAL_IN_USE"


async def test_of_installations_that_ask_at_once_one_gets_the_serial(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        serial = a_serial()
        await role.put_serial(serial)
        answers = await asyncio.gather(
            *(role.acquire(an_installation(serial).identity()) for _ in range(4)), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert len(refused) == 3
        assert {reason_of(error) for error in refused} == {"SERIAL_IN_USE"}


async def test_a_released_lease_frees_the_serial(license_role: StartRole, an_installation: MakeInstallation) -> None:
    async with license_role() as role:
        serial = a_serial()
        await role.put_serial(serial)
        first, second = an_installation(serial), an_installation(serial)
        await role.acquire(first.identity())
        # What another installation signs releases nothing.
        await role.release(second.identity())
        with pytest.raises(grpc.aio.AioRpcError):
            await role.acquire(second.identity())
        await role.release(first.identity())
        await role.acquire(second.identity())


async def test_a_request_is_answered_once_and_fits_no_other_call(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        installation = an_installation()
        await role.put_serial(installation.serial)
        request = installation.identity().request(role.clock.now(), b"n" * 16)
        await role.answer(request)
        for again in (request, installation.identity().request(role.clock.now(), b"n" * 16)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await role.answer(again)
            assert reason_of(refused.value) == "BAD_SIGNATURE"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.release(installation.identity(), Purpose.ACQUIRE)
        assert reason_of(refused.value) == "BAD_SIGNATURE"


async def test_an_old_request_is_refused_for_its_time_once_its_nonce_is_forgotten(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        installation = an_installation()
        await role.put_serial(installation.serial)
        request = installation.identity().request(role.clock.now() + timedelta(minutes=5), b"m" * 16)
        await role.answer(request)
        role.clock.jump(11 * 60)
        await role.acquire(installation.identity())
        async with role.db.unit() as unit:
            cursor = await unit.execute("select count(*) from nonces where nonce = %s", (b"m" * 16,))
            assert await cursor.fetchone() == (0,)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.answer(request)
        assert reason_of(refused.value) == "INVALID_ARGUMENT"


async def test_operators_enter_serials_and_list_leases_by_pages(
    license_role: StartRole, an_installation: MakeInstallation
) -> None:
    async with license_role() as role:
        installation = an_installation()
        await role.put_serial(installation.serial, "first")
        await role.put_serial(installation.serial, "again")
        for instance in ("a", "b", "c"):
            await role.acquire(installation.identity(instance=instance))
        seen, token = [], ""
        while True:
            answer = await role.list_leases(2, token)
            assert len(answer.leases) <= 2
            seen += [lease.instance for lease in answer.leases if lease.serial == installation.serial]
            token = answer.next_page_token
            if not token:
                break
        assert seen == ["a", "b", "c"]


async def test_none_but_operators_enter_serials_or_list_leases(license_role: StartRole) -> None:
    async with license_role() as role:
        for call in (role.put_serial(a_serial(), role="auth"), role.list_leases(role="auth")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert reason_of(refused.value) == "NOT_ALLOWED"


@pytest.mark.parametrize("serial", ["", "ABCD", "abcd-0000-0000-0000-0000-0000", "ABCD-0000-0000-0000-0000-0000-0000"])
async def test_what_is_not_a_serial_is_refused(license_role: StartRole, serial: str) -> None:
    async with license_role() as role:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.put_serial(serial)
        assert reason_of(refused.value) == "INVALID_ARGUMENT"


async def test_a_page_token_of_another_list_is_refused(license_role: StartRole) -> None:
    async with license_role() as role:
        for token in ("nonsense", "WyJhIl0="):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await role.list_leases(page_token=token)
            assert reason_of(refused.value) == "INVALID_ARGUMENT"
