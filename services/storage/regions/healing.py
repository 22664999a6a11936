"""Where else a bucket lies: on the cluster that it follows, and on those that follow it.

Kept true: in a cluster of buckets that neither follow others nor are followed, nobody else is asked for anything; one
that does not answer is left alone for a minute, so that however much is lost, what is to be had is not waiting for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError, Unavailable
from services.storage.peers import Peers
from services.storage.regions.source import Source
from services.storage.store import buckets, followed, following

_OPEN_SECONDS = 30.0
_SILENT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class OtherRegion:
    """A cluster that has the bucket too; whose it is, `tenant` and `user` say."""

    name: str
    source: Source
    tenant: UUID
    user: UUID


@dataclass(frozen=True, slots=True)
class OtherRegions:
    """`frame_seconds`: how long a node there may take for one frame."""

    db: Database
    peers: Peers
    clock: Clock
    frame_seconds: float
    _silent_until: dict[str, float] = field(default_factory=dict)

    async def of(self, bucket: UUID) -> list[OtherRegion]:
        """The one that it follows first. Raises Unavailable."""
        async with self.db.worker() as unit:
            state = await buckets.peek(unit, bucket)
            one = await following.get(unit, bucket)
            followers = await followed.followers(unit, bucket)
        if state is None:
            return []
        known = {one.source: one.addresses} if one else {}
        known |= {follower.cluster: follower.endpoints for follower in followers if follower.cluster not in known}
        return [
            OtherRegion(
                name,
                Source(self.peers, bucket, endpoints, seconds=self.frame_seconds),
                state.tenant_id,
                state.user_id,
            )
            for name, endpoints in known.items()
        ]

    @asynccontextmanager
    async def reading(self, region: OtherRegion) -> AsyncIterator[Source]:
        """With a session open there. Raises Unavailable, SourceRefused."""
        if self.clock.monotonic() < self._silent_until.get(region.name, 0.0):
            raise Unavailable(what=f"Cluster {region.name}")
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await region.source.open(region.tenant, region.user)
        except (Unavailable, TimeoutError):
            self._silent_until[region.name] = self.clock.monotonic() + _SILENT_SECONDS
            raise Unavailable(what=f"Cluster {region.name}") from None
        try:
            yield region.source
        finally:
            try:
                await region.source.end()
            except ServiceError as error:
                structlog.get_logger("storage").info("a session on another cluster is left", cause=str(error))
