"""The registry of servers, over gRPC and in Postgres."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from oort.cluster.v1 import servers_pb2, servers_pb2_grpc

from services.cluster.rpc.servers import ServersRpc
from services.common.database import Database
from services.common.listeners import Served
from services.common.messages import datetime_of
from services.common.provision import DatabaseUrls
from services.common.testing.clock import ManualClock
from services.common.testing.server import Certificates, Endpoints, reason_of, serving

NAME = "oort.cluster.v1.ServerService"


@dataclass
class ClusterRole:
    endpoints: Endpoints
    clock: ManualClock

    async def beat(self, server: servers_pb2.Server, role: str = "", instance: str = "") -> None:
        async with self.endpoints.internal_channel(role or server.role, instance or server.instance) as channel:
            await servers_pb2_grpc.ServerServiceStub(channel).Beat(servers_pb2.BeatRequest(server=server), timeout=60)

    async def list_servers(
        self, page_size: int = 0, page_token: str = "", role: str = "operator"
    ) -> servers_pb2.ListServersResponse:
        request = servers_pb2.ListServersRequest(page_size=page_size, page_token=page_token)
        async with self.endpoints.internal_channel(role, "tests") as channel:
            return await servers_pb2_grpc.ServerServiceStub(channel).ListServers(request, timeout=60)


StartRole = Callable[[], AbstractAsyncContextManager[ClusterRole]]


def a_server(role: str = "storage", instance: str = "s1", **others: str) -> servers_pb2.Server:
    server = servers_pb2.Server(role=role, instance=instance, version="1", started=Timestamp(seconds=1_700_000_000))
    for name, value in others.items():
        setattr(server, name, value)
    return server


@pytest.fixture
def cluster_role(a_database: Callable[[str], DatabaseUrls], installation: Certificates) -> StartRole:
    urls = a_database("cluster")

    @asynccontextmanager
    async def start() -> AsyncIterator[ClusterRole]:
        clock = ManualClock()
        db = await Database.open(urls.app, urls.worker, connections=2, wait_seconds=60)
        rpc = ServersRpc(db, clock)
        internal = [Served(servers_pb2_grpc.add_ServerServiceServicer_to_server, rpc, NAME)]
        try:
            async with serving("cluster", installation, internal=internal, clock=clock) as endpoints:
                yield ClusterRole(endpoints, clock)
        finally:
            await db.close()

    return start


async def test_a_beat_enters_a_server_and_the_next_renews_it(cluster_role: StartRole) -> None:
    async with cluster_role() as role:
        await role.beat(a_server(public_endpoint="old:1"))
        role.clock.jump(30)
        await role.beat(a_server(public_endpoint="new:1", internal_endpoint="new:2"))
        (server,) = (await role.list_servers()).servers
        assert (server.public_endpoint, server.internal_endpoint, server.version) == ("new:1", "new:2", "1")
        assert server.started.seconds == 1_700_000_000
        assert datetime_of(server.last_seen, "last_seen") == role.clock.now()


async def test_a_clock_set_back_makes_no_server_look_lost(cluster_role: StartRole) -> None:
    async with cluster_role() as role:
        await role.beat(a_server())
        seen = role.clock.now()
        role.clock.set_wall(seen - timedelta(hours=1))
        await role.beat(a_server())
        (server,) = (await role.list_servers()).servers
        assert datetime_of(server.last_seen, "last_seen") == seen


async def test_servers_are_listed_by_pages_to_operators_and_the_cluster_role(cluster_role: StartRole) -> None:
    async with cluster_role() as role:
        for name in ("auth/a1", "auth/a2", "storage/s1", "storage/s2", "storage/s3"):
            await role.beat(a_server(*name.split("/")))
        first = await role.list_servers(2)
        second = await role.list_servers(2, first.next_page_token, role="cluster")
        third = await role.list_servers(2, second.next_page_token)
        pages = [[f"{server.role}/{server.instance}" for server in page.servers] for page in (first, second, third)]
        assert pages == [["auth/a1", "auth/a2"], ["storage/s1", "storage/s2"], ["storage/s3"]]
        assert not third.next_page_token


async def test_a_peer_reports_of_itself_alone_and_only_operators_list(cluster_role: StartRole) -> None:
    async with cluster_role() as role:
        for caller in (("storage", "s2"), ("auth", "s1"), ("operator", "me")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await role.beat(a_server(), *caller)
            assert reason_of(refused.value) == "NOT_ALLOWED"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await role.list_servers(role="storage")
        assert reason_of(refused.value) == "NOT_ALLOWED"


async def test_a_beat_out_of_form_is_refused(cluster_role: StartRole) -> None:
    async with cluster_role() as role:
        late = a_server()
        late.started.seconds = 1 << 60
        for bad in (late, a_server(version="x" * 256)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await role.beat(bad)
            assert reason_of(refused.value) == "INVALID_ARGUMENT"
