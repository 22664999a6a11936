"""What a node says of itself is what every node says of it."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest
from oort.storage.v1 import buckets_pb2

from services.storage.tests.cluster import Cluster
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


async def test_every_node_names_the_disks_of_one_and_those_of_them_that_are_away(cluster: Cluster) -> None:
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
        second.mkdir()
        for asked in ("a", "b"):
            told = await disks_of_a(cluster, asked, there=[True, False])
            assert [disk.id for disk in told] == ids
            assert not told[1].free_bytes
        second.rmdir()
        away.rename(second)
        await disks_of_a(cluster, "b", there=[True, True])
    # It is told too of a node that does not run.
    async with cluster.up("b"):
        assert [disk.id for disk in await disks_of_a(cluster, "b", there=[True, True])] == ids
