"""A retention takes no second copy away: what it puts is on every home before what that replaces goes."""

import asyncio
import os

from domain.names import ObjectName
from domain.sessions import Purpose
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, reapers, rows, there
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Client, Cluster, a_body
from services.storage.transfer.tests.test_copies import copies_are_complete

__all__ = ["reapers"]


async def repack(client: Client, made: ObjectName, listed: ObjectName) -> tuple[ObjectName, ObjectName]:
    """Put another pack and index file in the place of these, as a prune does. Answers the new ones."""
    retention = await client.open(Purpose.RETENTION)
    await client.mark(retention)
    pack = await client.put_pack(retention, a_body())
    index = await client.put_index(retention, [pack])
    for old in (listed, made):
        assert await client.condemn(retention, old) == {}
    await client.end(retention)
    return pack, index


def change(cluster: Cluster, node: str, **settings: object) -> None:
    """From its next start on."""
    del cluster.settings[node]
    cluster.node(node, **settings)


async def nothing_is_awaited(cluster: Cluster) -> None:
    async with asyncio.timeout(60):
        while cluster.sql("select 1 from missing_copies where holds_from is not null"):  # noqa: ASYNC110 - it is a node that finds out
            await asyncio.sleep(0.02)


async def test_what_a_retention_puts_is_refused_while_a_home_that_lives_is_full(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            old = await a_committed_snapshot(client)
    before = cluster.files("a")
    change(cluster, "b", low_water_bytes=1 << 60)
    async with cluster.up("a", "b"), cluster.client("a", claims) as client:
        retention = await client.open(Purpose.RETENTION)
        await client.mark(retention)
        for put in (
            client.put_pack(retention, a_body()),
            client.put_index(retention, [old[0]]),
            client.commit(retention, b"another snapshot"),
            client.replace_seal(retention, b"laes"),
        ):
            assert await refusal_of(put) == "DISK_FULL"
        await client.end(retention)
        assert set(rows(cluster, *old).values()) == {"live"}
        assert cluster.files("a") == before
        backup = await client.open()
        new = await client.put_pack(backup, a_body())
        assert there(cluster, "a", claims, new) == [True]
        assert not cluster.sql("select 1 from missing_copies where holds_from is not null")


async def test_what_was_replaced_while_a_home_was_down_stays_until_that_has_the_new(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            new = await repack(client, made, listed)
        await reapers.reap("a")
        assert set(rows(cluster, made, listed).values()) == {"condemned"}
        assert there(cluster, "a", claims, made, listed) == [True, True]
    assert there(cluster, "b", claims, made, listed, committed, *new) == [True, True, True, False, False]
    async with cluster.up("a", "b"):
        await copies_are_complete(cluster, "b")
        await reapers.reap("a", "b")
        assert rows(cluster, made, listed) == {}
        for node in ("a", "b"):
            assert there(cluster, node, claims, made, listed, committed, *new) == [False, False, True, True, True]


async def test_what_was_condemned_before_a_home_missed_anything_goes(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            (made, listed, _), (later, index, _) = [await a_committed_snapshot(client) for _ in range(2)]
            await repack(client, made, listed)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            await repack(client, later, index)
        await reapers.reap("a")
        assert there(cluster, "a", claims, made, listed, later, index) == [False, False, True, True]


async def test_a_copy_that_no_home_has_holds_up_nothing(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            for lost in await repack(client, made, listed):
                (cluster.bucket_folder("a", claims.bucket) / lost.path).unlink()
                assert await refusal_of(client.get(await client.open(Purpose.READ), lost)) == "DAMAGED"
            await cluster.change("update sessions set ended_seq = opened_seq, ended = now() where ended_seq is null")
        await reapers.reap("a")
        assert rows(cluster, made, listed) == dict.fromkeys(map(str, (made, listed)), "deleting")


async def test_a_full_home_takes_the_index_files_of_a_retention_and_holds_up_nothing_for_the_rest(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            pack, index = await repack(client, made, listed)
    disk = os.statvfs(cluster.folder)
    change(cluster, "b", low_water_bytes=disk.f_bavail * disk.f_frsize * 3 // 2)
    async with cluster.up("a", "b"):
        await nothing_is_awaited(cluster)
        assert there(cluster, "b", claims, pack, index) == [False, True]
        await reapers.reap("a", "b")
        assert rows(cluster, made, listed) == {}
    change(cluster, "b")
    async with cluster.up("a", "b"):
        await copies_are_complete(cluster, "b")
        assert there(cluster, "b", claims, pack, index) == [True, True]
