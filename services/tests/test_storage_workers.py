"""A storage node of several processes on one port: one node to whoever calls it (docs/decisions/workers.md)."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import grpc
import psutil
import pytest
from oort.storage.v1 import objects_pb2

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from services.common.provision import DatabaseUrls
from services.common.testing.processes import a_process
from services.common.testing.server import Certificates, reason_of
from services.storage.tests.cluster import Client, Cluster, a_body, pack
from services.storage.tests.test_rates import FEW
from services.tests.conftest import Environment
from services.tests.test_processes import page
from services.tests.worker_node import NODE, WorkerNode, a_node, until, variables

FRAME = 512 << 10


@pytest.fixture
def cluster(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path: Path,
    a_free_port: Callable[[], int],
) -> Cluster:
    return Cluster(a_database("storage"), installation, tmp_path, a_free_port)


class HeldPut:
    """A put that has begun, and goes on when it is told to."""

    def __init__(self, client: Client, session: object) -> None:
        self.body = a_body(3 * FRAME)
        self.name = pack(self.body)
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self._session = str(session)
        self.call = asyncio.ensure_future(self._put(client))

    async def _put(self, client: Client) -> objects_pb2.PutResponse:
        return await client.objects.Put(self._requests(), metadata=client.metadata)

    async def _requests(self) -> AsyncIterator[objects_pb2.PutRequest]:
        header = objects_pb2.PutHeader(session_id=self._session, name=str(self.name), size=len(self.body))
        yield objects_pb2.PutRequest(header=header)
        yield objects_pb2.PutRequest(frame=self.body[:FRAME])
        self.begun.set()
        await self.go_on.wait()
        for start in range(FRAME, len(self.body), FRAME):
            yield objects_pb2.PutRequest(frame=self.body[start : start + FRAME])


async def test_what_one_worker_stores_another_one_reads_removes_and_counts(
    environment: Environment, cluster: Cluster
) -> None:
    own = {"basket_days": 0, "reap_seconds": 0.2}
    with a_node(environment, cluster, **own) as node:
        claims = await cluster.bucket(NODE)
        may_remove = replace(claims, scopes=claims.scopes | {Scope.DELETE})
        async with (
            node.client_of(node.first, may_remove) as first,
            node.client_of(await node.worker(), may_remove) as second,
        ):
            session = await first.open()
            bodies = a_body(), a_body()
            stored = [await first.put_pack(session, bodies[0]), await second.put_pack(session, bodies[1])]
            for client in (first, second):
                assert [await client.get(session, name) for name in stored] == list(bodies)
                assert await client.names(session, ObjectKind.PACK) == set(map(str, stored))
            await second.end(session)
            retention = await second.open(Purpose.RETENTION)
            await first.mark(retention)
            assert await second.condemn(retention, *stored) == {}
            await first.end(retention)
            await until(lambda: not list(node.data.glob("buckets/*/data/*/*")))
            shown = await asyncio.to_thread(page, node.running.ports["metrics"])
        put, get = (
            _value(shown, f'oort_rpc_calls_total{{code="OK",method="/oort.storage.v1.ObjectService/{m}"}}')
            for m in ("Put", "Get")
        )
        assert (put, get) == (2, 4)
        assert _value(shown, 'oort_rpc_seconds_bucket{le="+Inf",method="/oort.storage.v1.ObjectService/Put"}') == 2
        assert _value(shown, 'oort_storage_body_bytes_total{direction="in"}') == sum(map(len, bodies))
        assert _value(shown, "oort_storage_streams") == 0
        assert node.running.terminate() == 0
    assert "Traceback" not in node.running.log


def _value(shown: str, sample: str) -> float:
    found = re.findall(rf"^{re.escape(sample)} (\S+)$", shown, re.MULTILINE)
    assert len(found) == 1, (sample, found)
    return float(found[0])
