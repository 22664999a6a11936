"""The lease keeper on a clock that jumps: days in microseconds."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.license.v1 import leases_pb2

from services.common.errors import StartError, Unavailable
from services.common.lease import LEASE_OVER, NO_LEASE, Identity, LeaseKeeper, LeaseRefused
from services.common.lease_ledger import LeaseLedger
from services.common.lease_token import Bond, Lease
from services.common.testing.clock import ManualClock

HOUR = 3600.0
DAY = 24 * HOUR
LIFE, GRACE = timedelta(days=1), timedelta(days=3)


def a_bond(**others: str) -> Bond:
    bond = Bond(
        serial="TEST-0000-0000-0000-0000-0001",
        installation="ab" * 32,
        role="auth",
        instance="one",
        fingerprint="cd" * 32,
        address="auth.example:8060",
    )
    return replace(bond, **others)


@dataclass
class FakeServer:
    """Signs what is asked for, refuses, or is away; its clock is right whatever the instance's says."""

    clock: ManualClock
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    bond: Bond = field(default_factory=a_bond)
    away: bool = False
    refusal: str = ""
    nonce: str | None = None
    given: int = 0
    ahead: timedelta = timedelta()

    async def acquire(self, request: leases_pb2.AcquireRequest) -> str:
        if self.away:
            raise Unavailable(what="The licence server")
        if self.refusal:
            raise LeaseRefused(self.refusal)
        asked = leases_pb2.LeaseRequest.FromString(request.request)
        self.given += 1
        now = self.clock.now() + self.ahead
        lease = Lease(self.bond, self.nonce or asked.nonce.hex(), now, now + LIFE, now + LIFE + GRACE)
        return lease.to_token(self.key)


@dataclass
class Instance:
    """An instance whose process starts and ends at will."""

    path: Path
    clock: ManualClock
    server: FakeServer
    bond: Bond = field(default_factory=a_bond)
    open: list[LeaseKeeper] = field(default_factory=list)
    nonces: int = 0

    def start(self) -> LeaseKeeper:
        self.stop()
        keeper = LeaseKeeper(
            Identity(self.bond, b"", lambda message: hashlib.sha256(message).digest()),
            LeaseLedger(self.path),
            self.server,
            license_key=self.server.key.public_key(),
            clock=self.clock,
            random_bytes=self._nonce,
        )
        self.open.append(keeper)
        return keeper

    def stop(self) -> None:
        while self.open:
            self.open.pop().close()

    def _nonce(self, length: int) -> bytes:
        self.nonces += 1
        return self.nonces.to_bytes(length, "big")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    clock = ManualClock()
    made = Instance(tmp_path / "oort-license.db", clock, FakeServer(clock))
    yield made
    made.stop()


async def ended(keeping: "asyncio.Task[None]") -> StartError:
    """How a keeper ended."""
    with pytest.raises(StartError) as end:
        await asyncio.wait_for(keeping, 60)
    return end.value


async def test_a_new_instance_takes_a_lease_and_a_restart_goes_on_with_it(instance: Instance) -> None:
    lease = await instance.start().take()
    instance.clock.jump(7 * HOUR)
    assert await instance.start().take() == lease
    assert instance.server.given == 1


async def test_a_lease_is_renewed_at_a_third_of_its_life_and_its_history_is_kept(instance: Instance) -> None:
    keeper = instance.start()
    await keeper.take()
    keeping = asyncio.create_task(keeper.keep())
    await instance.clock.advance(7.9 * HOUR)
    assert instance.server.given == 1
    await instance.clock.advance(0.2 * HOUR)
    assert instance.server.given == 2
    await instance.clock.advance(DAY)
    assert instance.server.given == 5
    keeping.cancel()
    instance.stop()
    ledger = LeaseLedger(instance.path)
    assert len(ledger.history()) == 5
    ledger.close()


async def test_no_instance_starts_without_a_lease(instance: Instance) -> None:
    instance.server.away = True
    with pytest.raises(Unavailable):
        await instance.start().take()
    instance.server.away, instance.server.refusal = False, "SERIAL IN USE"
    with pytest.raises(StartError, match="the licence server refuses: SERIAL IN USE") as end:
        await instance.start().take()
    assert end.value.exit_code == NO_LEASE


async def test_a_cut_off_instance_runs_through_lease_and_grace_and_ends_with_them(instance: Instance) -> None:
    keeper = instance.start()
    await keeper.take()
    instance.server.away = True
    keeping = asyncio.create_task(keeper.keep())
    await instance.clock.advance(4 * DAY - 60)
    assert not keeping.done()
    await instance.clock.advance(61)
    end = await ended(keeping)
    assert end.exit_code == LEASE_OVER
    assert "could not be renewed" in str(end)
    with pytest.raises(Unavailable):
        await instance.start().take()


async def test_a_cut_off_instance_starts_again_within_its_grace(instance: Instance) -> None:
    lease = await instance.start().take()
    instance.server.away = True
    instance.clock.jump(3.9 * DAY)
    assert await instance.start().take() == lease
    instance.server.away = False
    assert await instance.start().take() != lease


async def test_a_refusal_ends_the_grace_but_not_the_lease(instance: Instance) -> None:
    keeper = instance.start()
    lease = await keeper.take()
    instance.server.refusal = "SERIAL IN USE"
    keeping = asyncio.create_task(keeper.keep())
    await instance.clock.advance(0.99 * DAY)
    assert not keeping.done()
    await instance.clock.advance(0.02 * DAY)
    assert (await ended(keeping)).exit_code == LEASE_OVER
    assert lease.expires <= instance.clock.now() < lease.grace_ends
    with pytest.raises(StartError):
        await instance.start().take()


async def test_an_outage_that_ends_in_the_grace_is_forgotten(instance: Instance) -> None:
    keeper = instance.start()
    await keeper.take()
    instance.server.away = True
    keeping = asyncio.create_task(keeper.keep())
    await instance.clock.advance(3 * DAY)
    instance.server.away = False
    await instance.clock.advance(2 * DAY)
    assert not keeping.done()
    keeping.cancel()


async def test_a_clock_set_back_lengthens_nothing_while_the_process_runs(instance: Instance) -> None:
    keeper = instance.start()
    lease = await keeper.take()
    instance.server.away = True
    keeping = asyncio.create_task(keeper.keep())
    for _ in range(4):
        await instance.clock.advance(DAY - 1)
        instance.clock.set_wall(lease.issued)
        assert not keeping.done()
    await instance.clock.advance(5)
    assert (await ended(keeping)).exit_code == LEASE_OVER


async def test_a_clock_set_back_lengthens_nothing_over_restarts(instance: Instance) -> None:
    lease = await instance.start().take()
    instance.server.away = True
    instance.clock.jump(2 * DAY)
    assert await instance.start().take() == lease
    instance.clock.set_wall(lease.issued)
    keeper = instance.start()
    assert keeper.now() == lease.issued + timedelta(days=2)
    instance.clock.jump(2 * DAY)
    instance.clock.set_wall(lease.issued)
    assert keeper.now() == lease.grace_ends
    with pytest.raises(Unavailable):
        await keeper.take()


async def test_a_clock_once_years_ahead_heals_with_the_next_fresh_lease(instance: Instance) -> None:
    right = instance.clock.now()
    await instance.start().take()
    instance.clock.set_wall(datetime(2040, 1, 1, tzinfo=UTC))
    instance.server.away = True
    with pytest.raises(Unavailable):
        await instance.start().take()
    instance.clock.set_wall(right + timedelta(hours=1))
    with pytest.raises(Unavailable):
        await instance.start().take()
    instance.server.away = False
    keeper = instance.start()
    await keeper.take()
    assert keeper.now() == right + timedelta(hours=1)


@pytest.mark.parametrize("what", ["serial", "installation", "role", "instance", "fingerprint", "address"])
async def test_a_lease_bound_to_another_is_not_used(instance: Instance, what: str) -> None:
    await instance.start().take()
    instance.bond = a_bond(**{what: "another"})
    instance.server.away = True
    with pytest.raises(Unavailable):
        await instance.start().take()
    instance.server.away = False
    with pytest.raises(StartError, match="not for this request"):
        await instance.start().take()


async def test_an_answer_to_another_request_is_refused(instance: Instance) -> None:
    instance.server.nonce = "00" * 16
    with pytest.raises(StartError, match="not for this request"):
        await instance.start().take()


async def test_a_lease_of_another_licence_server_is_refused(instance: Instance) -> None:
    await instance.start().take()
    pinned = instance.server.key
    instance.server.key = Ed25519PrivateKey.generate()
    keeper = instance.start()
    instance.server.key = pinned
    with pytest.raises(StartError, match="not a lease of the pinned licence server"):
        await keeper.take()


async def test_losing_the_file_loses_the_lease(instance: Instance) -> None:
    await instance.start().take()
    instance.stop()
    instance.path.unlink()
    instance.server.away = True
    with pytest.raises(Unavailable):
        await instance.start().take()


def test_the_file_is_the_owners_alone_and_belongs_to_one_process(instance: Instance) -> None:
    instance.start()
    assert instance.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StartError, match="is another process using it"):
        LeaseLedger(instance.path)


def test_a_damaged_file_and_one_that_cannot_be_written_get_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "oort-license.db"
    damaged.write_bytes(b"not a database at all, but long enough to look like one" * 100)
    with pytest.raises(StartError, match="damaged"):
        LeaseLedger(damaged)
    with pytest.raises(StartError, match="cannot write the lease file"):
        LeaseLedger(tmp_path / "missing" / "oort-license.db")
