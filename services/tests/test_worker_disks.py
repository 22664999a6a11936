"""A storage node of several processes and several disks: where a file lies, all of them agree (places.py)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import adoptions_pb2, adoptions_pb2_grpc, rescans_pb2, rescans_pb2_grpc

from domain.names import SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from services.storage.adoption.tests.test_adoption import adopting, copy_by_hand
from services.storage.sessions.tests.test_sessions import a_committed_snapshot
from services.storage.tests.cluster import Client, Cluster, a_body, pack
from services.storage.tests.test_operator import Metadata
from services.storage.upkeep.tests.test_rescan import auth_knowing, auth_server, lose_the_catalogue
from services.storage.volumes.leaving import Leaving
from services.tests.conftest import Environment
from services.tests.test_storage_workers import HeldPut
from services.tests.worker_node import NODE, a_node, until

__all__ = ["auth_server"]
_OBJECTS = "select kind, sha256, size, state from objects order by 1, 2"


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    return [tmp_path / "one", tmp_path / "two"]


@dataclass
class Vault:
    """One that clients of two workers fill and empty, and what it has."""

    clients: Sequence[Client]
    live: dict[ObjectName, bytes] = field(default_factory=dict)
    seal: bytes = b"seal"

    async def begin(self) -> None:
        session = await self.clients[0].open()
        await self.clients[0].initialise(session)
        await self.clients[0].end(session)

    async def fill(self) -> None:
        """Each client stores packs; one that both store, too."""
        session = await self.clients[0].open()
        same = a_body()
        bodies = [*(a_body() for _ in range(6)), same]
        await asyncio.gather(
            *(client.put_pack(session, body) for client in self.clients for body in bodies if body is not same),
            *(client.put_pack(session, same) for client in self.clients),
        )
        self.live |= {pack(body): body for body in bodies}
        await self.clients[0].end(session)

    async def replace_seal(self) -> None:
        """Each client after the other."""
        for client in self.clients:
            session = await client.open(Purpose.RETENTION)
            former, self.seal = self.seal, a_body(50)
            await client.replace_seal(session, self.seal, former)
            await client.end(session)

    async def is_whole(self) -> None:
        """As every client finds it."""
        for client in self.clients:
            session = await client.open(Purpose.READ)
            assert await client.names(session, ObjectKind.PACK) == set(map(str, self.live))
            for name, body in self.live.items():
                assert await client.get(session, name) == body
            assert await client.get(session, SEAL) == self.seal
            await client.end(session)

    async def remove(self, count: int) -> list[ObjectName]:
        gone = list(self.live)[:count]
        session = await self.clients[1].open(Purpose.RETENTION)
        await self.clients[0].mark(session)
        assert await self.clients[1].condemn(session, *gone) == {}
        await self.clients[0].end(session)
        for name in gone:
            del self.live[name]
        return gone


@dataclass
class Moving:
    """A bucket that has to leave one disk for the other one and back, again and again."""

    bucket: UUID
    disks: Sequence[Path]
    times: int = 0

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        begun = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)
            await until(self._has_left)

    async def at_least(self, times: int) -> None:
        await until(lambda: self.times >= times)

    async def _go_on(self) -> None:
        for disk in cycle(self.disks):
            await until(lambda: self._has_left() and any(map(self._lies_on, self.disks)))
            if self._lies_on(disk):
                Leaving(disk).note(self.bucket)
                self.times += 1

    def _lies_on(self, disk: Path) -> bool:
        return (disk / "buckets" / str(self.bucket)).exists()

    def _has_left(self) -> bool:
        return not any(self.bucket in Leaving(disk) for disk in self.disks)

    def places(self, name: ObjectName) -> int:
        """On how many disks the file of an object lies."""
        return sum((disk / "buckets" / str(self.bucket) / name.path).exists() for disk in self.disks)


@pytest.mark.long
async def test_workers_store_read_and_remove_what_moves_between_disks_and_one_of_them_is_killed(
    environment: Environment, cluster: Cluster, disks: list[Path]
) -> None:
    own = {"crowded_bytes": 1, "move_poll_seconds": 0.05, "basket_days": 0, "reap_seconds": 0.1}
    with a_node(environment, cluster, data_dirs=disks, **own) as node:
        claims = await cluster.bucket(NODE)
        claims = replace(claims, scopes=claims.scopes | {Scope.DELETE})
        moving = Moving(claims.bucket, disks)
        killed = await node.worker()
        async with node.client_of(node.first, claims) as first:
            async with node.client_of(killed, claims) as second:
                vault = Vault([first, second])
                await vault.begin()
                async with moving.going():
                    gone: list[ObjectName] = []
                    for _ in range(4):
                        before = moving.times
                        await vault.fill()
                        await vault.is_whole()
                        await vault.replace_seal()
                        await moving.at_least(before + 2)
                        await vault.is_whole()
                        gone += await vault.remove(3)
                    await until(lambda: not any(moving.places(name) for name in gone))
                    await vault.is_whole()
                    put = HeldPut(second, await second.open())
                    await until(lambda: any(put.name.id in part for part in node.parts()))
                    os.kill(killed, signal.SIGKILL)
                    with pytest.raises(grpc.aio.AioRpcError):
                        await put.call
                    await moving.at_least(moving.times + 2)
            async with node.client_of(await node.worker(other_than=killed), claims) as again:
                vault.clients = [first, again]
                async with moving.going():
                    await vault.fill()
                    await vault.is_whole()
        assert {name: moving.places(name) for name in vault.live} == dict.fromkeys(vault.live, 1)
        assert not any(moving.places(name) for name in gone)
        assert cluster.sql("select 1 from missing_copies") == []
        assert node.running.terminate() == 0
    for harm in ("Traceback", "is not whole", "failed", "cannot be"):
        assert harm not in node.running.log


async def test_while_a_disk_is_away_a_worker_is_started_again_and_the_other_disk_is_served_as_ever(
    environment: Environment, cluster: Cluster, disks: list[Path]
) -> None:
    with a_node(environment, cluster, data_dirs=disks, basket_days=0, reap_seconds=0.1) as node:
        claims = await cluster.bucket(NODE)
        claims = replace(claims, scopes=claims.scopes | {Scope.DELETE})
        killed = await node.worker()
        async with node.client_of(node.first, claims) as first, node.client_of(killed, claims) as second:
            vault = Vault([first, second])
            await vault.begin()
            await vault.fill()
        [holding] = [disk for disk in disks if (disk / "buckets" / str(claims.bucket)).exists()]
        [other] = [disk for disk in disks if disk != holding]
        away = other.with_name("away")
        other.rename(away)
        os.kill(killed, signal.SIGKILL)
        again = await node.worker(other_than=killed)
        async with node.client_of(node.first, claims) as first, node.client_of(again, claims) as second:
            vault.clients = [first, second]
            await vault.fill()
            await vault.replace_seal()
            gone = await vault.remove(3)
            await until(
                lambda: not any((holding / "buckets" / str(claims.bucket) / name.path).exists() for name in gone)
            )
            await vault.is_whole()
            assert not other.exists()
            away.rename(other)
            await vault.fill()
            await vault.is_whole()
        assert node.running.terminate() == 0


async def test_workers_adopt_and_rescan_what_lies_on_two_disks_one_after_the_other(
    environment: Environment, cluster: Cluster, disks: list[Path], auth_server: str
) -> None:
    own = {"crowded_bytes": 1, "move_poll_seconds": 0.05, "auth_server": auth_server}
    with a_node(environment, cluster, data_dirs=disks, **own) as node:
        claims = await cluster.bucket(NODE)
        second = await node.worker()
        async with node.client_of(node.first, claims) as client:
            await a_committed_snapshot(client)
        folders = [disk / "buckets" / str(claims.bucket) for disk in disks]
        copied = [(pack(body), body) for body in (a_body() for _ in range(20))]
        for folder, some in ((folders[0], copied[:12]), (folders[1], copied[8:])):  # four of them on both
            copy_by_hand(folder, *some)
        Leaving(disks[0]).note(claims.bucket)
        async with node.operator_of(node.first) as at_first, node.operator_of(second) as at_second:
            async with adopting(cluster, claims) as one:
                async with adopting(cluster, claims) as other:
                    found = await asyncio.gather(
                        adopt(at_first, one.metadata, one.session), adopt(at_second, other.metadata, other.session)
                    )
                assert sum(answer.objects for answer in found) == len(copied)
                assert [list(answer.left_out) for answer in found] == [[], []]
                assert await one.finish()
            before = cluster.sql(_OBJECTS)
            async with auth_knowing(cluster, claims):
                await lose_the_catalogue(cluster)
                await until(lambda: cluster.sql("select 1 from nodes"))  # it has said again that it is there
                scanned = await asyncio.gather(*(rescan_by(channel) for channel in (at_second, at_first)))
            assert cluster.sql(_OBJECTS) == before
            assert sum(answer.objects for answer in scanned) == len(before)
        async with node.client_of(node.first, claims) as client, node.client_of(second, claims) as beside:
            for reader in (client, beside):
                session = await reader.open(Purpose.READ)
                for name, body in copied:
                    assert await reader.get(session, name) == body
        assert node.running.terminate() == 0
    assert "Traceback" not in node.running.log


async def adopt(channel: grpc.aio.Channel, metadata: Metadata, session: str) -> adoptions_pb2.AdoptResponse:
    """What it says last of packs."""
    request = adoptions_pb2.AdoptRequest(session_id=session, kind=ObjectKind.PACK)
    calls = adoptions_pb2_grpc.AdoptionServiceStub(channel).Adopt(request, metadata=metadata)
    return [answer async for answer in calls][-1]


async def rescan_by(channel: grpc.aio.Channel) -> rescans_pb2.RescanResponse:
    """What it says last."""
    return [one async for one in rescans_pb2_grpc.RescanServiceStub(channel).Rescan(rescans_pb2.RescanRequest())][-1]
