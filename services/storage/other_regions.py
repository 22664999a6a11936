"""Where else a bucket lies: on the cluster that it follows, and on those that follow it.

Kept true: in a cluster of buckets that neither follow others nor are followed, nobody else is asked for anything.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.peers import Peers
from services.storage.source import Source
from services.storage.store import buckets, followed, following


@dataclass(frozen=True, slots=True)
class OtherRegion:
    """A cluster that has the bucket too; whose it is, `tenant` and `user` say."""

    name: str
    source: Source
    tenant: UUID
    user: UUID

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Source]:
        """With a session open there. Raises Unavailable, SourceRefused."""
        await self.source.open(self.tenant, self.user)
        try:
            yield self.source
        finally:
            try:
                await self.source.end()
            except ServiceError as error:
                structlog.get_logger("storage").info("a session on another cluster is left", cause=str(error))


@dataclass(frozen=True, slots=True)
class OtherRegions:
    """`frame_seconds`: how long a node there may take for one frame."""

    db: Database
    peers: Peers
    frame_seconds: float

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
