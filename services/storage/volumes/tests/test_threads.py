"""A store that stands still keeps nobody waiting but those who need it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.names import ObjectName
from domain.sessions import Purpose
from services.storage.tests.cluster import Cluster, a_body
from services.storage.tests.kept import on_s3
from services.storage.upkeep.tests.moving import until_none
from services.storage.upkeep.work import Presence
from services.storage.volumes.remote.store import StoreAway
from services.storage.volumes.remote.volume import RemoteVolume
from services.storage.volumes.threads import DiskThreads, StoreThreads, VolumeThreads


@dataclass
class Holding:
    """Of a volume, which buckets it has."""

    buckets: set[UUID] = field(default_factory=set)

    def may_hold(self, bucket: UUID) -> bool:
        return bucket in self.buckets

    has_bucket = may_hold


@contextmanager
def blocked(threads: DiskThreads, steps: int) -> Iterator[None]:
    """All of them at work until the end."""
    go_on = threading.Event()
    running = [asyncio.ensure_future(threads.run(go_on.wait)) for _ in range(steps)]
    try:
        yield
    finally:
        go_on.set()
        assert not any(step.done() for step in running)


async def test_each_volume_has_threads_of_its_own_and_a_store_others_for_bodies_on_their_way() -> None:
    on_disk, here, there = uuid4(), uuid4(), uuid4()
    with ExitStack() as stack:

        def one() -> DiskThreads:
            return DiskThreads(stack.enter_context(ThreadPoolExecutor(1)))

        stores: list[Any] = [StoreThreads(Holding({bucket}), one(), one()) for bucket in (here, there)]  # type: ignore[arg-type] # no more is asked
        disks: list[Any] = [Holding({on_disk})]
        threads = VolumeThreads(stack.enter_context(ThreadPoolExecutor(1)), disks, one(), stores)
        kinds = [
            threads,
            threads.of(on_disk),
            *(threads.of(bucket, sends=sends) for bucket in (here, there) for sends in (True, False)),
        ]
        assert threads.of(uuid4()) is threads
        for blocking in kinds:
            with blocked(blocking, 3):
                for other in kinds:
                    if other is not blocking:
                        async with asyncio.timeout(60):
                            assert await other.run(lambda: 1) == 1


async def test_a_disk_answers_and_the_node_lives_while_its_store_stands_still(
    cluster: Cluster, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, go_on, opens, beats = a_body(), threading.Event(), RemoteVolume.open, Presence.beat
    loop, all_wait, beaten = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    waiting: list[UUID] = []

    async def beat(presence: Presence) -> None:
        await beats(presence)
        beaten.set()

    def stands_still(volume: RemoteVolume, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> Any:
        waiting.append(bucket)
        if len(waiting) == 16:
            loop.call_soon_threadsafe(all_wait.set)
        go_on.wait()
        return opens(volume, bucket, name, size, cut=cut)

    with on_s3(s3_bucket, "node a", tmp_path) as kept:
        cluster.node("a", **{**kept.settings(), "data_dirs": [tmp_path / "disk"], "disk_threads": 2})
        monkeypatch.setattr(Presence, "beat", beat)
        async with cluster.up("a"):
            names = {}
            for free_bytes in (1 << 60, 0):
                monkeypatch.setattr(RemoteVolume, "free_bytes", free_bytes)
                claims = await cluster.bucket("a")
                async with cluster.client("a", claims) as client:
                    names[claims.bucket] = await client.put_pack(await client.open(), body)
                if free_bytes:
                    in_store = claims
            assert (tmp_path / "disk" / "buckets" / str(claims.bucket)).is_dir()
            assert any(str(in_store.bucket) in path for path in kept.files())
            monkeypatch.setattr(RemoteVolume, "open", stands_still)
            async with cluster.client("a", in_store) as slow, cluster.client("a", claims) as client:
                session = await slow.open(Purpose.READ)
                stuck = [asyncio.ensure_future(slow.get(session, names[in_store.bucket])) for _ in range(40)]
                try:
                    async with asyncio.timeout(60):
                        await all_wait.wait()
                        assert await client.get(await client.open(Purpose.READ), names[claims.bucket]) == body
                        for _ in range(2):  # the first may have been at its end
                            beaten.clear()
                            await beaten.wait()
                    assert set(waiting) == {in_store.bucket}
                finally:
                    go_on.set()
                assert await asyncio.gather(*stuck) == [body] * 40


async def test_a_node_lives_and_serves_its_disks_while_a_store_that_was_away_at_the_start_stands_still(
    cluster: Cluster, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, later, go_on, take, beats = a_body(), a_body(), threading.Event(), RemoteVolume._take, Presence.beat
    loop, asked, beaten = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    tries: list[RemoteVolume] = []

    async def beat(presence: Presence) -> None:
        await beats(presence)
        beaten.set()

    def stands_still(volume: RemoteVolume) -> None:
        tries.append(volume)
        if len(tries) == 1:
            raise StoreAway("it does not answer", passes=True, what="The store")
        loop.call_soon_threadsafe(asked.set)
        go_on.wait()
        take(volume)

    with on_s3(s3_bucket, "node a", tmp_path) as kept:
        cluster.node("a", **{**kept.settings(), "data_dirs": [tmp_path / "disk"], "store_room_bytes": 1})
        async with cluster.up("a"):
            claims = await cluster.bucket("a")
            async with cluster.client("a", claims) as client:
                name = await client.put_pack(await client.open(), body)
        monkeypatch.setattr(Presence, "beat", beat)
        monkeypatch.setattr(RemoteVolume, "_take", stands_still)
        async with cluster.up("a"), cluster.client("a", claims) as client:
            try:
                async with asyncio.timeout(60):
                    await asked.wait()
                    for _ in range(2):  # the first may have been at its end
                        beaten.clear()
                        await beaten.wait()
                session = await client.open()
                assert await client.get(session, name) == body
                assert await client.get(session, await client.put_pack(session, later)) == later
                assert cluster.sql("select reconciled from nodes") == [(False,)]
            finally:
                go_on.set()
            await until_none(cluster, "select 1 from nodes where not reconciled")
        assert len(tries) == 2
