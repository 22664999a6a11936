"""The catalogue meets the disk when a node starts."""

import asyncio
import shutil

import pytest

from domain.names import CONFIG
from services.common.errors import StartError
from services.storage.tests.cluster import Cluster, a_body
from services.storage.tests.test_copies import copies_are_complete
from services.storage.tests.test_sessions import a_committed_snapshot


async def test_a_node_whose_disk_was_replaced_by_an_empty_one_gets_all_again(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
        await copies_are_complete(cluster, "a")
        before = cluster.files("b")
    shutil.rmtree(cluster.settings["b"].data_dirs[0])
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        assert not (await cluster.describe("a")).copies_complete
        async with cluster.up("b"):
            await copies_are_complete(cluster, "a")
            assert cluster.files("b") == before == cluster.files("a")


async def test_a_started_node_finds_what_is_missing_or_cut_although_nobody_reads_it(cluster: Cluster) -> None:
    bodies = [a_body() for _ in range(5)]
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, body) for body in bodies]
            await client.initialise(session)
    places = [cluster.bucket_folder("b", claims.bucket) / name.path for name in (*names[:2], CONFIG)]
    places[0].unlink()
    places[1].write_bytes(b"cut")
    places[2].unlink()
    async with cluster.up("b"):
        async with asyncio.timeout(60):
            while not _is_reconciled(cluster, "b"):  # noqa: ASYNC110 - it happens in the background
                await asyncio.sleep(0.02)
        described = await cluster.describe("b")
        assert (described.missing_copies, described.copies_complete) == (3, False)
        async with cluster.up("a"):
            await copies_are_complete(cluster, "b")
        assert [place.read_bytes() for place in places] == [*bodies[:2], b"config"]


def _is_reconciled(cluster: Cluster, node: str) -> bool:
    return cluster.sql("select reconciled from nodes where id = %s", node) == [(True,)]


async def test_copies_are_not_complete_before_a_started_node_has_looked_at_its_disks(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            await client.put_pack(await client.open(), b"body")
        await copies_are_complete(cluster, "a")
    assert _is_reconciled(cluster, "a")
    await cluster.change("update nodes set reconciled = false")
    await cluster.change("update nodes set last_seen = now() + interval '1 hour'")
    async with cluster.up("b"):
        described = await cluster.describe("b")
        [a] = [node for node in described.nodes if node.id == "a"]
        assert (a.live, a.reconciled, a.buckets) == (True, False, 1)
        assert (described.missing_copies, described.copies_complete) == (0, False)
    async with cluster.up("a"):
        await copies_are_complete(cluster, "a")


async def test_a_folder_of_another_node_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        pass
    folder = cluster.settings["a"].data_dirs[0]
    cluster.node("b", data_dirs=[folder])
    with pytest.raises(StartError, match="belongs to node a"):
        async with cluster.up("b"):
            raise AssertionError("it started")
    (folder / "oort-disk.json").write_text("{")
    with pytest.raises(StartError, match="cannot read"):
        async with cluster.up("a"):
            raise AssertionError("it started")


async def test_nothing_is_called_missing_while_the_disk_is_away(cluster: Cluster) -> None:
    cluster.node("a", reconcile_hours=0.05 / 3600)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            await copies_are_complete(cluster, "a")
            folder = cluster.settings["a"].data_dirs[0]
            away = folder.with_name("away")
            folder.rename(away)
            folder.mkdir()
            before = cluster.sql("select last_seen from nodes")
            async with asyncio.timeout(60):
                while cluster.sql("select last_seen from nodes") == before:  # noqa: ASYNC110 - work in the background
                    await asyncio.sleep(0.05)
            assert cluster.sql("select count(*) from missing_copies") == [(0,)]
            folder.rmdir()
            away.rename(folder)
            assert await client.get(session, name) == b"body"
