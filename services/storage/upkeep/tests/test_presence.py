"""What a node says of itself is what every node says of it."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest
from oort.storage.v1 import buckets_pb2
from structlog.testing import capture_logs

from domain.sessions import Purpose
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.volumes import marker
from services.storage.volumes.disk import Disk


async def disks_of_a(cluster: Cluster, asked: str, *, there: list[bool]) -> list[buckets_pb2.Disk]:
    """As a node says that is asked, once those are there that are to be."""
    async with asyncio.timeout(60):
        while True:
            [told] = [list(node.disks) for node in (await cluster.describe(asked)).nodes if node.id == "a"]
            if [disk.there for disk in told] == there:
                return told
            await asyncio.sleep(0.02)


def test_a_folder_is_named_whole_and_as_well_as_text_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Disk(Path(os.fsdecode(b"disk\xff")), "a", 0)) as disk:
        assert disk.state().place == f"{tmp_path}/disk\ufffd"


@pytest.mark.parametrize("below", ["an empty folder", "nothing"])
async def test_every_node_names_the_disks_of_one_and_those_of_them_that_are_away(cluster: Cluster, below: str) -> None:
    first = cluster.folder / "a"
    second = first.with_name("second")
    cluster.node("a", data_dirs=(first, second))
    async with cluster.up("a", "b"):
        told = await disks_of_a(cluster, "b", there=[True, True])
        assert [(disk.kind, disk.place) for disk in told] == [("disk", str(first)), ("disk", str(second))]
        for disk, folder in zip(told, (first, second), strict=True):
            known = marker.read(folder)
            assert known is not None
            assert (known[0], str(known[1])) == ("a", disk.id)
            assert disk.free_bytes
        ids = [disk.id for disk in told]
        away = second.with_name("away")
        second.rename(away)
        if below == "an empty folder":
            second.mkdir()
        for asked in ("a", "b"):
            told = await disks_of_a(cluster, asked, there=[True, False])
            assert [disk.id for disk in told] == ids
            assert not told[1].free_bytes
        if below == "an empty folder":
            second.rmdir()
        assert not second.exists()
        away.rename(second)
        await disks_of_a(cluster, "b", there=[True, True])
    # It is told too of a node that does not run.
    async with cluster.up("b"):
        assert [disk.id for disk in await disks_of_a(cluster, "b", there=[True, True])] == ids


async def test_a_node_serves_from_its_other_disks_while_the_folder_of_one_is_gone_and_says_which(
    cluster: Cluster,
) -> None:
    first = cluster.folder / "a"
    second, away = first.with_name("second"), first.with_name("away")
    cluster.node("a", data_dirs=(first, second))
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.BACKUP)
            before = a_body()
            await client.put_pack(session, before)
            [holding] = [folder for folder in (first, second) if (folder / "buckets" / str(claims.bucket)).exists()]
            [other] = {first, second} - {holding}
            with capture_logs() as logs:
                other.rename(away)
                await disks_of_a(cluster, "a", there=[folder == holding for folder in (first, second)])
                body = a_body()
                await client.put_pack(session, body)
                assert [await client.get(session, pack(one)) for one in (before, body)] == [before, body]
                away.rename(other)
                await disks_of_a(cluster, "a", there=[True, True])
            told = [(line["log_level"], line["place"]) for line in logs if "a disk or store is" in line["event"]]
            assert told == [("error", str(other)), ("info", str(other))]
    [(free,)] = cluster.sql("select free_bytes from nodes where id = 'a'")
    assert free


async def test_a_node_whose_only_disk_is_gone_with_its_folder_says_so_and_goes_on_when_it_is_back(
    cluster: Cluster,
) -> None:
    folder = cluster.folder / "a"
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.BACKUP)
            folder.rename(folder.with_name("away"))
            [told] = await disks_of_a(cluster, "a", there=[False])
            assert told.free_bytes == 0
            assert cluster.sql("select free_bytes from nodes where id = 'a'") == [(0,)]
            assert not folder.exists(), "nothing is begun where the disk is not"
            folder.with_name("away").rename(folder)
            await disks_of_a(cluster, "a", there=[True])
            body = a_body()
            await client.put_pack(session, body)
            assert await client.get(session, pack(body)) == body
