"""An operator's sessions, on the internal listener: they read and add, in whatever bucket, and remove nothing."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import grpc
from oort.storage.v1 import objects_pb2, objects_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from domain.names import ObjectKind
from domain.sessions import OPERATOR_METADATA, Purpose
from domain.tokens import VaultClaims
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, a_session_id

Metadata = tuple[tuple[str, str], ...]


def named(claims: VaultClaims, **others: object) -> Metadata:
    told = {"bucket": claims.bucket, "tenant": claims.tenant, "user": claims.user, **others}
    return tuple(zip(OPERATOR_METADATA, map(str, told.values()), strict=True))


def opening(channel: grpc.aio.Channel, metadata: Metadata, purpose: Purpose) -> Awaitable[sessions_pb2.OpenResponse]:
    request = sessions_pb2.OpenRequest(session_id=str(a_session_id()), purpose=purpose)
    return sessions_pb2_grpc.SessionServiceStub(channel).Open(request, metadata=metadata)


async def test_an_operator_reads_and_removes_nothing(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client, cluster.internal("a") as channel:
            *_, committed = await a_committed_snapshot(client)
            sessions = sessions_pb2_grpc.SessionServiceStub(channel)
            session, metadata = str(a_session_id()), named(claims)
            opened = sessions_pb2.OpenRequest(session_id=session, purpose=Purpose.ADOPT)
            await sessions.Open(opened, metadata=metadata)
            request = objects_pb2.ListRequest(session_id=session, kind=ObjectKind.SNAPSHOT)
            found = await objects_pb2_grpc.ObjectServiceStub(channel).List(request, metadata=metadata)
            assert [one.name for one in found.objects] == [str(committed)]
            removal = sessions_pb2.RemoveRequest(session_id=session, name=str(committed))
            assert await refusal_of(sessions.Remove(removal, metadata=metadata)) == "NOT_ALLOWED"
            assert await refusal_of(opening(channel, metadata, Purpose.RETENTION)) == "NOT_ALLOWED"
            # The session of nobody is no device's.
            beat = sessions_pb2.BeatRequest(session_id=session)
            assert await refusal_of(client.sessions.Beat(beat, metadata=client.metadata)) == "NOT_ALLOWED"


async def test_whoever_is_no_operator_and_whatever_names_no_bucket_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        refused: dict[str, Callable[[grpc.aio.Channel], Awaitable[object]]] = {
            "INVALID_ARGUMENT": lambda channel: opening(channel, (), Purpose.READ),
            "NOT_FOUND": lambda channel: opening(channel, named(claims, tenant=uuid4()), Purpose.READ),
        }
        async with cluster.internal("a") as channel:
            for reason, call in refused.items():
                assert await refusal_of(call(channel)) == reason
            assert await refusal_of(opening(channel, named(claims, user=uuid4()), Purpose.READ)) == "NOT_FOUND"
        async with cluster.internal("a", "auth", "one") as channel:
            assert await refusal_of(opening(channel, named(claims), Purpose.READ)) == "NOT_ALLOWED"
        # A node of another cluster reads, and does nothing else.
        async with cluster.internal("a", "storage", "one") as channel:
            await opening(channel, named(claims), Purpose.READ)
            for purpose in (Purpose.BACKUP, Purpose.ADOPT, Purpose.RETENTION):
                assert await refusal_of(opening(channel, named(claims), purpose)) == "NOT_ALLOWED"
        # Nor does a device get in by what an operator says.
        async with cluster.client("a", claims) as client:
            assert await refusal_of(opening(client.channel, named(claims), Purpose.READ)) == "NOT_SIGNED_IN"
