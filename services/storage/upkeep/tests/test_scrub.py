"""Scrubbing: copies that nobody reads are read, what is not whole is healed, and what cannot be healed is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta

import grpc
import pytest
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc, scrubs_pb2, scrubs_pb2_grpc
from prometheus_client import CollectorRegistry

from domain.names import CONFIG
from domain.sessions import Purpose
from services.common.clock import SystemClock
from services.common.database import Database
from services.common.testing.clock import ManualClock
from services.storage.sessions.tests.test_sessions import a_committed_snapshot
from services.storage.store import scrubs
from services.storage.tests.cluster import Client, Cluster, a_body, a_session_id
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.scrub import Scrubber
from services.storage.upkeep.tests.test_healing import altered, place_of
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.pace import Pace
from services.storage.volumes.steady import read_when_idle
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import Volume


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    """Whose nodes soon see that they are to scrub."""
    for name in ("a", "b"):
        cluster.node(name, scrub_poll_seconds=0.05)
    return cluster


async def start(cluster: Cluster, node: str, bucket: object = "") -> None:
    async with cluster.internal(node) as channel:
        stub = scrubs_pb2_grpc.ScrubServiceStub(channel)
        await stub.StartScrub(scrubs_pb2.StartScrubRequest(bucket_id=str(bucket)))


async def finished(cluster: Cluster, node: str, bucket: object = "") -> dict[str, scrubs_pb2.Scrub]:
    """By node, when all have read what they hold."""
    async with cluster.internal(node) as channel, asyncio.timeout(300):
        stub = scrubs_pb2_grpc.ScrubServiceStub(channel)
        while True:
            answer = await stub.ListScrubs(scrubs_pb2.ListScrubsRequest(bucket_id=str(bucket)))
            if all(one.HasField("done") for one in answer.scrubs):
                return {one.node_id: one for one in answer.scrubs}
            await asyncio.sleep(0.02)


async def scrubbed(cluster: Cluster, node: str, bucket: object = "") -> dict[str, scrubs_pb2.Scrub]:
    await start(cluster, node, bucket)
    return await finished(cluster, node, bucket)


async def lost_objects(cluster: Cluster, node: str, bucket: object) -> int:
    async with cluster.internal(node) as channel:
        stub = buckets_pb2_grpc.BucketServiceStub(channel)
        return (await stub.GetBucket(buckets_pb2.GetBucketRequest(id=str(bucket)))).bucket.lost_objects


async def told_lost(client: Client, purpose: Purpose = Purpose.BACKUP) -> list[str]:
    return list((await client.open_raw(a_session_id(), purpose, None)).lost)


class Meanwhile(SystemClock):
    """A clock that lets something happen while a scrub waits for its pace, and no time pass there.

    `passing` are the seconds that each look at it takes.
    """

    def __init__(self, happens: Callable[[], Awaitable[object]], passing: float) -> None:
        self._happens = happens
        self._passing = passing
        self._seconds = 0.0

    def monotonic(self) -> float:
        self._seconds += self._passing
        return self._seconds

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the protocol's
        await self._happens()


@asynccontextmanager
async def a_database(cluster: Cluster, node: str) -> AsyncIterator[Database]:
    settings = cluster.settings[node]
    db = await Database.open(settings.database_url, settings.database_worker_url, wait_seconds=60)
    try:
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def a_scrubber(
    cluster: Cluster,
    node: str,
    happens: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
    *,
    passing: float = 0,
    volume: Volume | None = None,
) -> AsyncIterator[Scrubber]:
    """Of a node that does not run: what it verified is good for no time at all. Its time passes as `Meanwhile` says.

    It has a disk, if not `volume`.
    """
    settings = cluster.settings[node]
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(a_database(cluster, node))
        disks = Disks([volume or Disk(settings.data_dirs[0], node, 0)], node)
        stack.callback(disks.close)
        thread = DiskThreads(stack.enter_context(read_when_idle()))
        yield Scrubber(
            node,
            db,
            disks,
            thread,
            Incoming(node, db, disks, thread),
            clock=Meanwhile(happens, passing),
            bytes_per_second=1 << 40,
            kept=timedelta(),
            poll_seconds=1,
            registry=CollectorRegistry(),
        )


def missing(cluster: Cluster) -> set[tuple[str, str]]:
    """Nodes, and what they are said to lack."""
    return {
        (node, digest.hex())
        for node, digest in cluster.sql(
            "select m.node_id, o.sha256 from missing_copies m join objects o on o.id = m.object_id"
        )
    }


def verified(cluster: Cluster) -> dict[str, datetime]:
    return {
        digest.hex(): when
        for digest, when in cluster.sql(
            "select o.sha256, v.verified from verified_copies v join objects o on o.id = v.object_id"
        )
    }


async def test_a_bit_that_was_flipped_where_nobody_reads_is_found_and_healed(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        other = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client, cluster.client("a", other) as neighbour:
            await a_committed_snapshot(client)
            await a_committed_snapshot(neighbour)
            name = await client.put_pack(await client.open(), body)
            place = place_of(cluster, "a", claims.bucket, name)
            place.write_bytes(altered(body))
            found = await scrubbed(cluster, "b", claims.bucket)
            assert {node: one.damaged for node, one in found.items()} == {"a": 1, "b": 0}
            # pack, index file, snapshot, key, config, seal; and the large pack, which may be healed and read again
            assert found["b"].copies == 7
            assert found["a"].copies in {7, 8}
            await copies_are_complete(cluster, "a")
            assert place.read_bytes() == body
            assert await lost_objects(cluster, "a", claims.bucket) == 0
            everywhere = await scrubbed(cluster, "b")
            assert {one.bucket_id for one in everywhere.values()} <= {str(claims.bucket), str(other.bucket)}
            assert {one.damaged for one in everywhere.values()} == {0}


async def test_whatever_befell_a_copy_is_found(cluster: Cluster) -> None:
    bodies = [a_body() for _ in range(4)]
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session, bodies[0])
            names = [CONFIG, *[await client.put_pack(session, body) for body in bodies[1:]]]
            await copies_are_complete(cluster, "a")  # so no node compares its disk any more, which it does as it starts
            places = config, cut, gone, unreadable = [place_of(cluster, "b", claims.bucket, name) for name in names]
            config.write_bytes(altered(bodies[0]))
            cut.write_bytes(bodies[1][:500])
            gone.unlink()
            unreadable.unlink()
            unreadable.symlink_to(unreadable)
            found = await scrubbed(cluster, "a", claims.bucket)
            assert {node: one.damaged for node, one in found.items()} == {"a": 0, "b": 4}
            await copies_are_complete(cluster, "a")
            assert [place.read_bytes() for place in places] == bodies


async def test_what_no_home_has_whole_is_a_mark_on_its_bucket_and_told_to_the_next_backup(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_body(2 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            places = [place_of(cluster, node, claims.bucket, name) for node in ("a", "b")]
            for place in places:
                place.write_bytes(altered(body))
            await scrubbed(cluster, "a", claims.bucket)
            assert await lost_objects(cluster, "a", claims.bucket) == 1
            assert await told_lost(client) == [str(name)]
            assert not (await client.open_raw(a_session_id(), Purpose.BACKUP, None)).more_lost
            monkeypatch.setattr(scrubs, "LOST_AT_ONCE", 1)
            assert (await client.open_raw(a_session_id(), Purpose.BACKUP, None)).more_lost, "the list is full"
            assert await told_lost(client, Purpose.READ) == []
            assert await client.reserve(session, name) == [str(name)]
            # Nothing was thrown away: a part of what is left is still read.
            assert await client.get(session, name, 0, 1000) == body[:1000]
            await client.put(session, name, body)
            await copies_are_complete(cluster, "a")
            assert {place.read_bytes() for place in places} == {body}
            assert await lost_objects(cluster, "a", claims.bucket) == 0
            assert await told_lost(client) == []


async def test_a_started_node_reads_by_itself_what_was_not_read_for_long(cluster: Cluster) -> None:
    cluster.settings.pop("b")
    cluster.node("b", scrub_days=1e-9)
    body = a_body()
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            name = await client.put_pack(await client.open(), body)
    place = place_of(cluster, "b", claims.bucket, name)
    place.write_bytes(altered(body))
    async with cluster.up("a", "b"), asyncio.timeout(60):
        while place.read_bytes() != body:  # noqa: ASYNC110 - it is a node that heals
            await asyncio.sleep(0.02)


async def test_the_copy_that_was_verified_longest_ago_comes_first(cluster: Cluster) -> None:
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, a_body()) for _ in range(3)]
        await scrubbed(cluster, "a")
        for name, days in zip(names, (2, 20, 10), strict=True):
            await cluster.change(
                "update verified_copies set verified = now() - %s * interval '1 day' from objects o"
                " where o.id = object_id and o.sha256 = %s",
                days,
                bytes.fromhex(name.id),
            )
        async with db.worker() as unit:
            due = await scrubs.oldest(unit, "a", timedelta(days=5), [], 10)
        assert [one.name for one in due] == [names[1], names[2]]


async def test_nothing_is_said_of_copies_on_a_disk_that_is_away(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
    async with a_scrubber(cluster, "a", passing=100) as scrubber:
        folder = cluster.settings["a"].data_dirs[0]
        away = folder.with_name("away")
        folder.rename(away)
        folder.mkdir()
        assert not await scrubber.scrub()
        assert missing(cluster) == set()
        folder.rmdir()
        away.rename(folder)
        assert await scrubber.scrub()
        assert len(verified(cluster)) == 6


@pytest.mark.parametrize("change", ["sha256 = sha256(sha256)", "state = 'deleting', condemned_seq = 1"])
async def test_what_is_replaced_or_removed_meanwhile_is_not_called_damaged(cluster: Cluster, change: str) -> None:
    body = a_body(2 << 20)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await client.put_pack(await client.open(), body)
    place_of(cluster, "a", claims.bucket, name).write_bytes(altered(body))
    async with a_scrubber(cluster, "a", lambda: cluster.change(f"update objects set {change}")) as scrubber:
        assert not await scrubber.scrub()
    assert missing(cluster) == set()


async def test_an_object_that_goes_while_its_batch_is_read_does_not_keep_the_others_from_being_entered(
    cluster: Cluster,
) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            goes, stays = [await client.put_pack(session, a_body()) for _ in range(2)]

    async def go() -> None:
        await cluster.change("delete from object_users")
        await cluster.change("delete from objects where sha256 = %s", bytes.fromhex(goes.id))

    async with a_scrubber(cluster, "a", go) as scrubber:
        assert await scrubber.scrub()
    assert list(verified(cluster)) == [stays.id]


@pytest.mark.parametrize("was_asked", [False, True])
async def test_what_is_just_being_read_when_a_scrub_is_asked_for_counts_for_it(
    cluster: Cluster, *, was_asked: bool
) -> None:
    bodies = [a_body() for _ in range(4)]
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, body) for body in bodies]
    for name, body in zip(names[::2], bodies[::2], strict=True):
        place_of(cluster, "a", claims.bucket, name).write_bytes(altered(body))
    looks = 0

    async def ask() -> None:
        async with db.worker() as unit:
            await scrubs.ask(unit, claims.bucket)

    async def ask_in_the_middle() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await ask()

    async with a_database(cluster, "a") as db, a_scrubber(cluster, "a", ask_in_the_middle) as scrubber:
        if was_asked:
            await ask()
        done = None
        while done is None and await scrubber.scrub():
            [(copies, size, damaged, done)] = cluster.sql("select copies, bytes, damaged, done from scrubs")
    assert done
    assert (copies, size, damaged) == (4, sum(map(len, bodies)), 2)


async def test_no_more_bytes_a_second_are_read_than_allowed() -> None:
    clock = ManualClock()
    pace = Pace(clock, 1 << 20)
    read = 0

    async def reading() -> None:
        nonlocal read
        while True:
            read += 1
            await pace.spend(1 << 20)

    task = asyncio.ensure_future(reading())
    await clock.advance(9.5)
    assert read == 10
    task.cancel()


async def test_only_an_operator_may_have_buckets_scrubbed_that_there_are(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a", "auth") as channel:
        stub = scrubs_pb2_grpc.ScrubServiceStub(channel)
        calls: list[Awaitable[object]] = [
            stub.StartScrub(scrubs_pb2.StartScrubRequest()),
            stub.ListScrubs(scrubs_pb2.ListScrubsRequest()),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        for bucket, code in ((a_session_id(), grpc.StatusCode.NOT_FOUND), ("x", grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await start(cluster, "a", bucket)
            assert refused.value.code() is code
