"""Rate limits: what counts, whom it holds up, and what goes on without Redis (services/storage/access/rates.py)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.common.addresses import Address, address_of_peer
from services.common.testing.clock import ManualClock
from services.common.testing.server import Certificates, some_settings
from services.storage.access.rates import PAUSE_SECONDS, SILENT_SECONDS, SOONEST_SECONDS, Kind, Rates, open_rates
from services.storage.errors import TooManyCalls, TooManyCallsOfRange, TooManyCallsOfStrangers
from services.storage.settings import StorageSettings

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

HERE, NEAR, FAR = ip_address("192.0.2.1"), ip_address("192.0.2.99"), ip_address("198.51.100.1")
ANNA, BORIS, CHEN = UUID(int=1), UUID(int=2), UUID(int=3)
# So few that none comes back while a test runs: three calls of a device at once, and five of a range, then one in
# 1,000 seconds, or 600.
FEW = {"device_calls_per_second": 1 / 1000, "range_calls_per_second": 1 / 600, "calls_burst_seconds": 3000}


@dataclass
class Counted:
    """Rates on a real Redis, and the time that passes there."""

    rates: Rates
    redis: Redis
    cluster: str
    registry: CollectorRegistry
    clock: ManualClock = field(default_factory=ManualClock)

    async def take(self, device: UUID | None, address: Address = HERE, kind: Kind = Kind.CALL) -> str:
        """`ok`, or whose limit refuses."""
        try:
            await self.rates.take(device, address, kind)
        except TooManyCallsOfRange:
            return "range"
        except TooManyCallsOfStrangers:
            return "strangers"
        except TooManyCalls:
            return "device"
        return "ok"

    async def keys(self) -> list[str]:
        return sorted([key.decode() async for key in self.redis.scan_iter(f"oort:storage:{self.cluster}:*")])

    async def let_pass(self, seconds: float) -> None:
        for key in await self.keys():
            now = float(await self.redis.get(key) or 0)
            await self.redis.set(key, f"{now - seconds * 1e6:.0f}", keepttl=True)

    @property
    def unlimited(self) -> float | None:
        return self.registry.get_sample_value("oort_storage_unlimited_calls_total")


@asynccontextmanager
async def counted(
    installation: Certificates, redis_url: str, *, through: str = "", patience: float = 30
) -> AsyncIterator[Counted]:
    """Rates that reach Redis at `through`, if it is given, and not at its own address."""
    cluster = f"test-{uuid4()}"
    settings = a_storage_node(installation, cluster_name=cluster, redis_url=through or redis_url)
    registry, clock = CollectorRegistry(), ManualClock()
    async with (
        Redis.from_url(redis_url) as redis,
        open_rates(settings.model_copy(update=FEW), clock, registry, patience=patience) as rates,
    ):
        yield Counted(rates, redis, cluster, registry, clock)


def a_storage_node(installation: Certificates, **others: Any) -> StorageSettings:
    own: dict[str, Any] = {
        "license_server": "localhost:1",
        "license_key": installation.ca,
        "license_file": "oort-license.db",
        "serial": "none",
        "data_dirs": ["data"],
        "token_keys": installation.ca,
    }
    return some_settings(StorageSettings, "storage", installation, **own, **others)


# Counting


async def test_a_device_at_its_limit_waits_and_goes_on(installation: Certificates, redis_url: str) -> None:
    async with counted(installation, redis_url) as here:
        assert [await here.take(ANNA, FAR) for _ in range(4)] == ["ok", "ok", "ok", "device"]
        with pytest.raises(TooManyCalls) as refused:
            await here.rates.take(ANNA, FAR)
        # What was refused has not counted: it is as long as before.
        assert 900 < refused.value.retry_seconds <= 1000
        await here.let_pass(refused.value.retry_seconds)
        assert [await here.take(ANNA, FAR) for _ in range(2)] == ["ok", "device"]


async def test_who_is_early_by_a_gap_of_2_ms_is_not_told_to_come_again_at_once(installation: Certificates) -> None:
    async def script(keys: Sequence[str], args: Sequence[float]) -> tuple[int, int]:  # noqa: ARG001 - as of Redis
        return 1, 2000

    settings = a_storage_node(installation)
    rates = Rates(settings, cast("AsyncScript", script), ManualClock(), CollectorRegistry(), patience=30)
    with pytest.raises(TooManyCalls) as refused:
        await rates.take(ANNA, FAR)
    assert refused.value.retry_seconds == SOONEST_SECONDS


async def test_calls_at_once_are_as_many_as_calls_one_by_one(installation: Certificates, redis_url: str) -> None:
    async with counted(installation, redis_url) as here:
        answers = await asyncio.gather(*(here.take(ANNA) for _ in range(40)))
        assert sorted(answers) == ["device"] * 37 + ["ok"] * 3


async def test_a_device_at_its_limit_takes_nothing_from_others_around_it(
    installation: Certificates, redis_url: str
) -> None:
    async with counted(installation, redis_url) as here:
        for _ in range(20):
            await here.take(ANNA)
        # Of the five calls of the range Anna has made three, and no more.
        assert [await here.take(BORIS, NEAR) for _ in range(3)] == ["ok", "ok", "range"]
        # What the range refuses does not count for the device either.
        assert [await here.take(BORIS, FAR) for _ in range(2)] == ["ok", "device"]


async def test_an_ipv4_address_written_as_ipv6_is_in_the_range_of_ipv4(
    installation: Certificates, redis_url: str
) -> None:
    async with counted(installation, redis_url) as here:
        for host in ("ipv6:%5B::ffff:192.0.2.7%5D:1", "ipv4:192.0.2.8:1"):
            address = address_of_peer(host)
            assert address is not None
            await here.take(ANNA, address)
        assert await here.keys() == [
            f"oort:storage:{here.cluster}:rate:{ANNA}:calls",
            f"oort:storage:{here.cluster}:rate:range:192.0.2.0/24",
        ]


async def test_who_shows_nothing_good_is_counted_by_range_and_takes_nothing_from_its_devices(
    installation: Certificates, redis_url: str
) -> None:
    async with counted(installation, redis_url) as here:
        assert [await here.take(None, place) for place in (HERE, NEAR, HERE, NEAR)] == ["ok"] * 3 + ["strangers"]
        assert await here.take(None, FAR) == "ok"
        assert [await here.take(CHEN) for _ in range(3)] == ["ok"] * 3


async def test_beats_go_on_beside_a_spent_limit_and_are_bounded_too(installation: Certificates, redis_url: str) -> None:
    async with counted(installation, redis_url) as here:
        for device in (ANNA, BORIS):
            for _ in range(4):
                await here.take(device)
        assert await here.take(CHEN) == "range"
        assert [await here.take(ANNA, HERE, Kind.BEAT) for _ in range(4)] == ["ok"] * 3 + ["device"]


async def test_no_count_stays_in_redis_for_ever(installation: Certificates, redis_url: str) -> None:
    async with counted(installation, redis_url) as here:
        await here.take(ANNA)
        await here.take(None)
        await here.take(ANNA, HERE, Kind.BEAT)
        lifetimes = [await here.redis.ttl(key) for key in await here.keys()]
        assert len(lifetimes) == 4
        assert all(0 < lifetime <= 1000 for lifetime in lifetimes)


async def test_a_clock_of_redis_that_was_set_back_locks_nobody_out(installation: Certificates, redis_url: str) -> None:
    async with counted(installation, redis_url) as here:
        await here.take(ANNA)
        await here.let_pass(-1_000_000)
        assert await here.take(ANNA) == "device"
        await here.let_pass(1_001_000)
        assert await here.take(ANNA) == "ok"
        await here.let_pass(-1_000_000)
        with pytest.raises(TooManyCalls) as refused:
            await here.rates.take(ANNA, HERE)
        assert refused.value.retry_seconds <= 1000


@pytest.mark.parametrize("name", ["device_calls_per_second", "range_calls_per_second", "calls_burst_seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_limit_that_can_be_none_is_no_setting(installation: Certificates, name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        a_storage_node(installation, **{name: value})


# Without Redis


@asynccontextmanager
async def a_line(port: int, redis_url: str, *, is_dead: bool = False) -> AsyncIterator[None]:
    """Listen on a port, and pass on to Redis what comes, or nothing."""
    target = urlsplit(redis_url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):  # also if the loop ends before the other end has closed
            while part := await reader.read(1 << 16):
                writer.write(part)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_dead:
            with closing(writer):
                await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    server = await asyncio.start_server(meet, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


def through(port: int, redis_url: str) -> str:
    target = urlsplit(redis_url)
    return redis_url.replace(f":{target.port}/", f":{port}/")


async def test_without_redis_every_call_goes_through_and_is_counted_and_it_is_said_once(
    installation: Certificates, redis_url: str, a_free_port: Any
) -> None:
    port = a_free_port()
    async with counted(installation, redis_url, through=through(port, redis_url)) as here:
        with capture_logs() as lines:
            assert [await here.take(ANNA) for _ in range(5)] == ["ok"] * 5
            here.clock.jump(PAUSE_SECONDS)
            assert await here.take(ANNA) == "ok"
            assert here.unlimited == 6
            async with a_line(port, redis_url):
                # It is not asked again at once.
                assert await here.take(ANNA) == "ok"
                assert await here.keys() == []
                here.clock.jump(PAUSE_SECONDS)
                assert [await here.take(ANNA) for _ in range(4)] == ["ok"] * 3 + ["device"]
                await here.rates.take(BORIS, HERE)
        assert here.unlimited == 7
        said = [line["event"] for line in lines]
        assert said == ["no rate limit holds until Redis answers", "rate limits hold again"]


async def test_an_answer_from_before_an_outage_does_not_end_it(installation: Certificates) -> None:
    late = asyncio.Event()
    asked: list[str] = []

    async def script(keys: Sequence[str], args: Sequence[float]) -> tuple[int, int]:  # noqa: ARG001 - as of Redis
        asked.append(keys[0])
        if str(ANNA) not in keys[0]:
            raise ConnectionError
        await late.wait()
        return 0, 0

    settings = a_storage_node(installation)
    rates = Rates(settings, cast("AsyncScript", script), ManualClock(), CollectorRegistry(), patience=30)
    with capture_logs() as lines:
        before = asyncio.ensure_future(rates.take(ANNA, HERE))
        await asyncio.sleep(0)
        await rates.take(BORIS, HERE)
        late.set()
        await before
        await rates.take(CHEN, HERE)
    assert len(asked) == 2
    assert [line["event"] for line in lines] == ["no rate limit holds until Redis answers"]


async def test_a_redis_that_is_silent_holds_up_one_call_a_while_and_no_other(
    installation: Certificates, redis_url: str, a_free_port: Any
) -> None:
    port = a_free_port()
    async with (
        a_line(port, redis_url, is_dead=True),
        counted(installation, redis_url, through=through(port, redis_url), patience=0.1) as here,
    ):
        assert await here.take(ANNA) == "ok"
        here.clock.jump(SILENT_SECONDS)
        with capture_logs() as lines:
            assert await here.take(ANNA) == "ok"
        assert [line["event"] for line in lines] == ["no rate limit holds until Redis answers"]
        here.clock.jump(PAUSE_SECONDS)
        probing = asyncio.ensure_future(here.take(ANNA))
        await asyncio.sleep(0)
        assert [await here.take(ANNA) for _ in range(3)] == ["ok"] * 3
        assert not probing.done()
        assert await probing == "ok"
        assert here.unlimited == 6


async def test_a_redis_that_is_slow_holds_no_call_up_however_many_come_at_once(installation: Certificates) -> None:
    asked: list[str] = []

    async def script(keys: Sequence[str], args: Sequence[float]) -> tuple[int, int]:  # noqa: ARG001 - as of Redis
        asked.append(keys[0])
        await asyncio.Event().wait()
        return 0, 0

    settings, registry = a_storage_node(installation), CollectorRegistry()
    rates = Rates(settings, cast("AsyncScript", script), ManualClock(), registry)
    with capture_logs() as lines:
        async with asyncio.timeout(60):
            await asyncio.gather(*(rates.take(UUID(int=number), HERE) for number in range(200)))
            await rates.take(ANNA, HERE, Kind.BEAT)
    assert registry.get_sample_value("oort_storage_unlimited_calls_total") == 201
    # A late answer is no outage: the next call asks again.
    assert lines == []
    assert str(ANNA) in asked[-1]
