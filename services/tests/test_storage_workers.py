"""A storage node of several processes on one port: one node to whoever calls it (docs/decisions/workers.md)."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import grpc
import psutil
import pytest
from oort.storage.v1 import objects_pb2

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from services.common.testing.processes import a_process
from services.common.testing.server import reason_of
from services.common.worker import worker_of
from services.storage.tests.cluster import Client, Cluster, a_body, pack
from services.tests.conftest import Environment
from services.tests.test_processes import page
from services.tests.worker_node import NODE, WorkerNode, a_node, until, variables

FRAME = 512 << 10
_PUTS = 'oort_rpc_calls_total{code="OK",method="/oort.storage.v1.ObjectService/Put"}'
_UNLIMITED = "oort_storage_unlimited_calls_total"
_GETS = 'oort_rpc_calls_total{code="OK",method="/oort.storage.v1.ObjectService/Get"}'


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
            expected = {
                _PUTS: 2,
                _GETS: 4,
                'oort_rpc_seconds_bucket{le="+Inf",method="/oort.storage.v1.ObjectService/Put"}': 2,
                'oort_storage_body_bytes_total{direction="in"}': sum(map(len, bodies)),
                "oort_storage_streams": 0,
            }
            await _shows(node, expected)
            ticks = _ticks(node)
            await until(lambda: _ticks(node) > ticks)
        assert node.running.terminate() == 0
    assert "Traceback" not in node.running.log


async def _shows(node: WorkerNode, expected: Mapping[str, float]) -> None:
    """Wait until the metrics port shows these values: a worker that is slow to answer shows what it said before."""
    await until(lambda: _shown(node, expected) == expected)


def _shown(node: WorkerNode, samples: Iterable[str]) -> dict[str, float]:
    text = page(node.running.ports["metrics"])
    found = {sample: re.findall(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE) for sample in samples}
    return {sample: float(value) for sample, values in found.items() for value in values}


def _ticks(node: WorkerNode) -> int:
    """Those of the second worker, as the first one sees them."""
    for path in Path(f"/proc/{node.first}/fd").iterdir():
        with suppress(OSError):  # it is closed meanwhile
            if str(path.readlink()).startswith("/memfd:oort-workers"):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    return worker_of(descriptor, 0, 2).ticks[1]
                finally:
                    os.close(descriptor)
    raise AssertionError("nothing is shared")


async def test_a_worker_that_is_killed_is_started_again_and_disturbs_no_other_put(
    environment: Environment, cluster: Cluster
) -> None:
    with a_node(environment, cluster, workers=3) as node:
        claims = await cluster.bucket(NODE)
        killed = await node.worker()
        other = await node.worker(other_than=killed)
        async with (
            node.client_of(node.first, claims) as first,
            node.client_of(killed, claims) as second,
            node.client_of(other, claims) as third,
        ):
            session = await first.open()
            before = await second.put_pack(session, a_body())
            await _shows(node, {_PUTS: 1})
            lost, *going_on = (HeldPut(client, session) for client in (second, first, third))
            await until(lambda: len(node.parts()) == 3)
            os.kill(killed, signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError):
                await lost.call
            # Its part goes with its successor, and no part of anybody else.
            again = await node.worker(other_than=other)
            await until(lambda: len(node.parts()) == 2)
            for put in going_on:
                put.go_on.set()
                assert (await put.call).copies == 1
            assert node.parts() == []
            async with node.client_of(again, claims) as fourth:
                await fourth.put(session, lost.name, lost.body)
                for name in (before, lost.name, *(put.name for put in going_on)):
                    assert await fourth.get(session, name)
        # What the killed one had told still counts.
        await _shows(node, {_PUTS: 4, "oort_worker_restarts_total": 1})
        assert node.running.terminate() == 0


async def test_a_node_that_is_told_to_end_lets_the_puts_of_all_its_workers_finish(
    environment: Environment, cluster: Cluster, a_free_port: Callable[[], int]
) -> None:
    rest = a_free_port()
    at = {"rest_listen": f"127.0.0.1:{rest}", "rest_endpoint": f"localhost:{rest}", "auth_server": "localhost:1"}
    with a_node(environment, cluster, drain_seconds=120, **at) as node:
        claims = await cluster.bucket(NODE)
        worker = await node.worker()
        await until(lambda: len(node.listening(rest)) == 2)
        async with node.client_of(node.first, claims) as first, node.client_of(worker, claims) as second:
            session = await first.open()
            puts = [HeldPut(first, session), HeldPut(second, session)]
            await until(lambda: len(node.parts()) == 2)
            node.running.process.terminate()
            await until(lambda: not node.listening() and not node.listening(rest))
            for put in puts:
                put.go_on.set()
                assert (await put.call).copies == 1
            assert await asyncio.to_thread(node.running.wait) == 0
        assert not psutil.pid_exists(worker)
        assert "Traceback" not in node.running.log


async def test_no_worker_outlives_the_first_one_which_starts_again_at_once(
    environment: Environment, cluster: Cluster
) -> None:
    with a_node(environment, cluster) as node:
        claims = await cluster.bucket(NODE)
        worker = psutil.Process(await node.worker())
        async with node.client_of(worker.pid, claims) as client:
            put = HeldPut(client, await client.open())
            await until(node.parts)
            node.running.process.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await put.call
        await until(lambda: _has_ended(worker))
    with a_node(environment, cluster) as node:
        assert node.parts() == []
        assert node.running.terminate() == 0


def _has_ended(process: psutil.Process) -> bool:
    """Also if nobody asks for what it ended with."""
    try:
        # With all of its threads, the last of which lets go of its ports and locks.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1
    except psutil.NoSuchProcess:
        return True


async def test_limits_hold_for_all_workers_together(environment: Environment, cluster: Cluster, redis_url: str) -> None:
    name = f"test-{uuid4()}"
    own = {"max_streams": 2, "device_calls_per_second": 1, "calls_burst_seconds": 10}
    with a_node(environment, cluster, redis_url=redis_url, cluster_name=name, **own) as node:
        worker = await node.worker()
        whose = replace(await cluster.bucket(NODE, quota_bytes=4 * FRAME), cluster=name)
        async with node.client_of(node.first, whose) as first, node.client_of(worker, whose) as second:
            session = await first.open()
            puts = [HeldPut(first, session), HeldPut(second, session)]
            await until(lambda: len(node.parts()) == 2)
            for client in (first, second):
                assert await _refusal(client.put_pack(session, a_body())) == "TOO_BUSY"
            puts[0].go_on.set()
            await puts[0].call
            puts[1].go_on.set()
            # 3 of the 4 frames are there, put by the other one.
            assert await _refusal(puts[1].call) == "QUOTA_EXCEEDED"
            assert await second.put_pack(session, a_body())
        whose = replace(await cluster.bucket(NODE), cluster=name)
        async with node.client_of(node.first, whose) as first, node.client_of(worker, whose) as second:
            begun = time.monotonic()
            session = await first.open()
            taken = 1
            for client in (first, second) * 20:
                try:
                    await client.names(session, ObjectKind.PACK)
                    taken += 1
                except grpc.aio.AioRpcError as error:
                    if reason_of(error) != "RATE_LIMITED":
                        raise
            too_many = taken - (10 + 1 + time.monotonic() - begun)
            # But for those for which Redis was too slow.
            await until(lambda: _shown(node, [_UNLIMITED])[_UNLIMITED] >= too_many)


async def _refusal(call: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc] # a call, or a coroutine
    return reason_of(refused.value)


def test_another_node_gets_none_of_a_nodes_calls(environment: Environment, cluster: Cluster) -> None:
    with a_node(environment, cluster) as node:
        taken = cluster.settings[NODE].public_listen
        for workers in (1, 2):
            values = variables(environment, cluster) | {
                "OORT_WORKERS": str(workers),
                "OORT_INTERNAL_LISTEN": "127.0.0.1:0",
                "OORT_DATA_DIRS": str(node.data.with_name("other")),
            }
            with a_process("storage", values, starts=False) as second:
                assert second.wait() == 1
            assert second.lines[-1].startswith(f"oort storage: cannot listen on {taken}: the port is taken")
        assert node.running.terminate() == 0


def test_a_data_folder_stays_locked_until_the_last_worker_has_ended(environment: Environment, cluster: Cluster) -> None:
    with a_node(environment, cluster) as node:
        values = variables(environment, cluster) | dict.fromkeys(
            ("OORT_PUBLIC_LISTEN", "OORT_INTERNAL_LISTEN"), "127.0.0.1:0"
        )
        worker = asyncio.run(node.worker())
        os.kill(worker, signal.SIGSTOP)
        try:
            node.running.process.kill()
            node.running.process.wait()
            with a_process("storage", values, starts=False) as second:
                assert second.wait() == 1
            assert second.lines[-1].endswith(f"another storage node has {node.data} open\n")
        finally:
            os.kill(worker, signal.SIGKILL)
