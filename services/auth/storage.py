"""The storage clusters, as auth deals with them: it asks one for a bucket, and learns where clients find its nodes.

Kept true: nothing here runs inside a database transaction, and every call has a deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID

import grpc
import structlog
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from services.auth.errors import IdTaken, StorageUnavailable
from services.auth.store import clusters
from services.auth.store.clusters import StorageCluster
from services.auth.store.templates import Template
from services.auth.store.vaults import Vault
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.rpc import call

# How long what a cluster said of its nodes is good for; clients hold several of them and take another by themselves.
FRESH = timedelta(seconds=15)
DESCRIBE_SECONDS = 2.0
SESSIONS_SECONDS = 10.0
# All nodes of a cluster together have this long: whoever asks auth waits for 30 seconds, and would take auth for away.
ANSWER_SECONDS = 26.0

Answer = TypeVar("Answer")
# What another node of the cluster would say as well.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
_DETAILS_KEY = "grpc-status-details-bin"


class Channels(Protocol):
    def __call__(self, target: str) -> grpc.aio.Channel:
        """A channel to an internal listener at host:port."""


class Storage:
    """Calls to storage clusters; channels are kept until `close`."""

    def __init__(self, db: Database, clock: Clock, channels: Channels, bucket_seconds: float) -> None:
        self._db = db
        self._clock = clock
        self._channels = channels
        self._bucket_seconds = bucket_seconds
        self._open: dict[str, grpc.aio.Channel] = {}
        self._log = structlog.get_logger("auth.storage")

    async def close(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(channel.close() for channel in self._open.values()))
        self._open.clear()

    async def make_bucket(self, cluster: StorageCluster, vault: Vault, template: Template) -> None:
        """Make the vault's bucket, whose id is the vault's: a repeated call is the same call.

        Raises StorageUnavailable when no node makes it, IdTaken when it is another's, InvalidArgument.
        """
        wanted = buckets_pb2.Bucket(
            id=str(vault.id),
            tenant_id=str(vault.tenant_id),
            user_id=str(vault.user_id),
            copies=template.copies,
            ack_copies=template.ack_copies,
            quota_bytes=template.quota_bytes,
        )

        async def create(channel: grpc.aio.Channel) -> buckets_pb2.CreateBucketResponse:
            node = buckets_pb2_grpc.BucketServiceStub(channel)
            request = buckets_pb2.CreateBucketRequest(bucket=wanted)
            return await call(node.CreateBucket, request, seconds=self._bucket_seconds, attempts=3, clock=self._clock)

        try:
            answer = await self.ask(cluster, create)
        except grpc.aio.AioRpcError as error:
            raise InvalidArgument(detail=f"The storage cluster {cluster.name} refused: {error.details()}") from error
        made = answer.bucket
        if (made.id, made.tenant_id, made.user_id) != (wanted.id, wanted.tenant_id, wanted.user_id):
            raise IdTaken(what="vault", id=vault.id)

    async def public_endpoints(self, name: str) -> list[str]:
        """Where clients find a cluster's nodes, live ones first; the last known when it cannot be asked.

        Raises StorageUnavailable when it never answered.
        """
        async with self._db.unit() as unit:
            cluster = await clusters.get(unit, name)
        if cluster is None:
            raise StorageUnavailable(cluster=name, detail="it is not set up.")
        now = self._clock.now()
        if cluster.described and timedelta() <= now - cluster.described < FRESH:
            return cluster.public_endpoints
        try:
            answer = await self.ask(cluster, self._describe)
        except StorageUnavailable:
            if not cluster.public_endpoints:
                raise
            return cluster.public_endpoints
        nodes = sorted((node for node in answer.nodes if node.public_endpoint), key=lambda node: not node.live)
        endpoints = [node.public_endpoint for node in nodes]
        if not endpoints:
            return cluster.public_endpoints
        async with self._db.unit() as unit:
            await clusters.set_public_endpoints(unit, name, endpoints, now)
        return endpoints

    async def rest_endpoints(self, name: str) -> list[str]:
        """Where restics find a cluster's nodes, live ones first. Raises StorageUnavailable when none serves them."""
        async with self._db.unit() as unit:
            cluster = await clusters.get(unit, name)
        if cluster is None:
            raise StorageUnavailable(cluster=name, detail="it is not set up.")
        answer = await self.ask(cluster, self._describe)
        nodes = sorted((node for node in answer.nodes if node.rest_endpoint), key=lambda node: not node.live)
        if not nodes:
            raise StorageUnavailable(cluster=name, detail="none of its nodes has a REST port.")
        return [node.rest_endpoint for node in nodes]

    async def sessions(
        self, cluster: StorageCluster, request: sessions_pb2.ListSessionsRequest
    ) -> sessions_pb2.ListSessionsResponse:
        """A page of the open sessions of a cluster. Raises StorageUnavailable, InvalidArgument."""

        async def ask(channel: grpc.aio.Channel) -> sessions_pb2.ListSessionsResponse:
            node = sessions_pb2_grpc.SessionControlServiceStub(channel)
            return await call(node.ListSessions, request, seconds=SESSIONS_SECONDS)

        try:
            return await self.ask(cluster, ask)
        except grpc.aio.AioRpcError as error:
            raise InvalidArgument(detail=f"The storage cluster {cluster.name} refused: {error.details()}") from error

    async def end_session(self, cluster: StorageCluster, session: UUID, tenant: UUID) -> bool:
        """End a tenant's session; False if the cluster has no such one. Raises StorageUnavailable."""
        request = sessions_pb2.EndSessionRequest(session_id=str(session), tenant_id=str(tenant))

        async def ask(channel: grpc.aio.Channel) -> sessions_pb2.EndSessionResponse:
            node = sessions_pb2_grpc.SessionControlServiceStub(channel)
            return await call(node.EndSession, request, seconds=SESSIONS_SECONDS)

        try:
            await self.ask(cluster, ask)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise InvalidArgument(detail=f"The cluster {cluster.name} refused: {error.details()}") from error
            return False
        return True

    async def _describe(self, channel: grpc.aio.Channel) -> buckets_pb2.DescribeClusterResponse:
        node = buckets_pb2_grpc.BucketServiceStub(channel)
        return await call(node.DescribeCluster, buckets_pb2.DescribeClusterRequest(), seconds=DESCRIBE_SECONDS)

    async def ask(
        self,
        cluster: StorageCluster,
        ask: Callable[[grpc.aio.Channel], Awaitable[Answer]],
    ) -> Answer:
        """The answer of the first node that gives one. Raises StorageUnavailable, and AioRpcError for a refusal."""
        detail = "none of its nodes answers."
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                for endpoint in cluster.internal_endpoints:
                    try:
                        return await ask(self._channel(endpoint))
                    except grpc.aio.AioRpcError as error:
                        if error.code() in _REFUSALS:
                            raise
                        self._log.warning(
                            "storage node refused", endpoint=endpoint, code=error.code().name, detail=error.details()
                        )
                        detail = _said(error) or detail
        raise StorageUnavailable(cluster=cluster.name, detail=detail)

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        if endpoint not in self._open:
            self._open[endpoint] = self._channels(endpoint)
        return self._open[endpoint]


def _said(error: grpc.aio.AioRpcError) -> str:
    """What a node itself gave as the reason; what gRPC says of connections would name inner addresses."""
    from_node = any(key == _DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    return (error.details() or "") if from_node else ""
