"""Rate limits: how often devices and address ranges may call the nodes of a cluster, which count together in Redis.

Kept true: a call counts once, when it begins, whatever comes of it; a call that is refused counts nowhere, so a device
at its limit takes nothing of what the others in its range have; without a Redis that answers every call goes through,
and no call waits for one longer than a quarter of a second. What keeps sessions alive has a count of its own.

GCRA (ITU-T I.371): of each count Redis keeps one time, at which the calls so far would have come had they come at the
greatest even rate; a call that would come earlier than the burst allows waits. Redis' clock is the only one.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.addresses import Address, range_of
from services.common.clock import Clock
from services.storage.errors import TooManyCalls, TooManyCallsOfRange, TooManyCallsOfStrangers
from services.storage.settings import StorageSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

IPV4_BITS, IPV6_BITS = 24, 48
PATIENCE_SECONDS = 0.25  # of a call, for its turn and the answer together
SILENT_SECONDS = 2.0  # in which every answer came late: so long that a busy node does not take itself for Redis
# What a refused caller is told at least: at its limit there is room again after a gap of 2 ms, so it would call more.
SOONEST_SECONDS = 0.25
PAUSE_SECONDS = 5.0  # for which Redis is not asked again after it did not answer
_CONNECTIONS = 8
_MICROSECONDS = 1_000_000

# KEYS are the counts, ARGV the microseconds between calls of each, then the burst in microseconds. All count the call,
# or none does. Answers which of them refuses it (0: none), and the microseconds until it would not.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local burst = tonumber(ARGV[#ARGV])
local due = {}
for i, key in ipairs(KEYS) do
  local interval = tonumber(ARGV[i])
  local room = math.max(interval, burst)
  local last = tonumber(redis.call('GET', key) or '0')
  if last > now + room then last = now + room end
  due[i] = math.max(last, now) + interval
  local early = due[i] - room - now
  if early > 0 then return {i, early} end
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', due[i]), 'PX', math.ceil((due[i] - now) / 1000))
end
return {0, 0}
"""


class Kind(StrEnum):
    """What is counted apart from what."""

    CALL = "calls"
    BEAT = "beats"


class Rates:
    """The limits of one cluster. `script` is None where there is no Redis, so no limit."""

    def __init__(
        self,
        settings: StorageSettings,
        script: "AsyncScript | None",
        clock: Clock,
        registry: CollectorRegistry,
        *,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._prefix = f"oort:storage:{settings.cluster_name}:rate"
        self._device_gap = _MICROSECONDS / settings.device_calls_per_second
        self._range_gap = _MICROSECONDS / settings.range_calls_per_second
        self._burst = settings.calls_burst_seconds * _MICROSECONDS
        self._script = script
        self._patience = patience
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._clock = clock
        self._ask_after = -math.inf
        self._is_out = False
        self._late_since: float | None = None
        self._unlimited = Counter(
            "oort_storage_unlimited_calls",
            "Calls that went through without a limit: Redis did not answer, or not in time",
            registry=registry,
        )
        self._log = structlog.get_logger("storage")

    async def take(self, device: UUID | None, address: Address | None, kind: Kind = Kind.CALL) -> None:
        """Count a call that begins. Raises TooManyCalls.

        `device` is None for who shows nothing good. All of those in an address range count together and apart from its
        devices: who guesses takes nothing from them.
        """
        if self._script is None:
            return
        place = range_of(address, IPV4_BITS, IPV6_BITS) if address else "none"
        counts = {f"{self._prefix}:{device or f'strangers:{place}'}:{kind}": self._device_gap}
        if device and kind is Kind.CALL:
            counts[f"{self._prefix}:range:{place}"] = self._range_gap
        refusing, early = await self._ask(self._script, counts)
        if refusing:
            own = TooManyCalls if device else TooManyCallsOfStrangers
            raise (own if refusing == 1 else TooManyCallsOfRange)(seconds=max(early / _MICROSECONDS, SOONEST_SECONDS))

    async def _ask(self, script: "AsyncScript", counts: dict[str, float]) -> tuple[int, int]:
        """What the script says; that nobody refuses while Redis does not answer, or not in time."""
        from redis.exceptions import RedisError

        now, tries = self._clock.monotonic(), self._is_out
        if tries:
            if now < self._ask_after:
                return self._unasked()
            # One call tries, and those that come meanwhile do not wait for it.
            self._ask_after = now + PAUSE_SECONDS
        try:
            async with asyncio.timeout(self._patience), self._turns:
                if self._is_out and not tries:
                    return self._unasked()
                refusing, early = await script(keys=list(counts), args=[*counts.values(), self._burst])
        except TimeoutError as error:
            # One late answer is no outage: the node may be busy, or others have the turns.
            if self._is_silent():
                self._note_outage(error)
            return self._unasked()
        except (RedisError, OSError) as error:
            self._note_outage(error)
            return self._unasked()
        self._late_since = None
        if tries:  # not of one that was asked before the outage, and is answered after it was noted
            self._is_out = False
            self._log.info("rate limits hold again")
        return int(refusing), int(early)

    def _is_silent(self) -> bool:
        """Note a late answer; True if there was none in time for a while."""
        now = self._clock.monotonic()
        if self._late_since is None:
            self._late_since = now
        return now - self._late_since >= SILENT_SECONDS

    def _note_outage(self, error: Exception) -> None:
        self._ask_after = self._clock.monotonic() + PAUSE_SECONDS
        if not self._is_out:
            self._is_out = True
            self._log.warning("no rate limit holds until Redis answers", cause=repr(error))

    def _unasked(self) -> tuple[int, int]:
        self._unlimited.inc()
        return 0, 0


@asynccontextmanager
async def open_rates(
    settings: StorageSettings, clock: Clock, registry: CollectorRegistry, *, patience: float = PATIENCE_SECONDS
) -> AsyncIterator[Rates]:
    """The limits that the settings say, counted in the Redis that they name. Closes the connections to it.

    A call that has no answer after `patience` seconds goes through.
    """
    if settings.redis_url is None:
        yield Rates(settings, None, clock, registry)
        return
    redis = _connect(settings.redis_url)
    try:
        yield Rates(settings, redis.register_script(_SCRIPT), clock, registry, patience=patience)
    finally:
        await redis.aclose()


def _connect(url: str) -> "Redis":
    """Imported where it is: a node without Redis starts a sixth sooner."""
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # Of a connection that has died idle the next call makes a new one, at once.
    pool = ConnectionPool.from_url(url, max_connections=_CONNECTIONS, retry=Retry(NoBackoff(), 1))
    return Redis.from_pool(pool)
