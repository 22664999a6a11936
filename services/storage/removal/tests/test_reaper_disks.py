"""The reaper where a disk or a home is away, or refuses."""

import errno
import os
from pathlib import Path

import pytest

from services.storage.removal.tests.test_reaper import (
    Reapers,
    a_bucket,
    an_unneeded_backup,
    counters_are_right,
    reapers,
    rows,
    there,
)
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests.cluster import Cluster
from services.storage.volumes.disk import Disk

__all__ = ["reapers"]


async def test_a_home_that_is_down_removes_its_copies_when_it_is_back(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await a_bucket(cluster, copies=2)
            async with cluster.client("a", claims) as client:
                unneeded = made, *_ = await an_unneeded_backup(client)
        async with cluster.client("a", claims) as client:
            await reapers.reap("a", "a")
            assert there(cluster, "a", claims, *unneeded) == [False] * 3
            assert there(cluster, "b", claims, *unneeded) == [True] * 3
            assert set(rows(cluster, *unneeded).values()) == {"deleting"}
            session = await client.open()
            assert await client.reserve(session, made) == [str(made)]
            assert await refusal_of(client.put(session, made, b"")) == "BEING_REMOVED"
        # It settles, reconciles and heals as it starts, and none of that brings anything back.
        async with cluster.up("b"):
            await reapers.reap("b")
            assert rows(cluster, *unneeded) == {}
            assert there(cluster, "b", claims, *unneeded) == [False] * 3
            assert cluster.files("a") == cluster.files("b")
            assert counters_are_right(cluster)


async def test_a_disk_that_is_away_keeps_its_rows(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            unneeded = await an_unneeded_backup(client)
        disk = cluster.settings["a"].data_dirs[0]
        mounted = disk.with_name("elsewhere")
        disk.rename(mounted)
        disk.mkdir()
        await reapers.reap("a")
        assert set(rows(cluster, *unneeded).values()) == {"deleting"}
        disk.rmdir()
        mounted.rename(disk)
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {}
        assert there(cluster, "a", claims, *unneeded) == [False] * 3


async def test_a_disk_that_cannot_sync_or_is_away_holds_up_its_own_buckets_alone(
    cluster: Cluster, reapers: Reapers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.node("a", data_dirs=[cluster.folder / "first", cluster.folder / "second"])
    first, second = cluster.settings["a"].data_dirs
    free = dict.fromkeys((first, second), 0)  # GiB: a bucket goes to the roomier one
    monkeypatch.setattr(Disk, "free_bytes", property(lambda disk: free[disk.folder] << 30))
    async with cluster.up("a"):
        unneeded = {}
        buckets = sorted([await a_bucket(cluster), await a_bucket(cluster)], key=lambda claims: claims.bucket)
        for disk, claims in zip((first, second), buckets, strict=True):
            free[disk] = max(free.values()) + 1
            async with cluster.client("a", claims) as client:
                unneeded[disk] = await an_unneeded_backup(client)
            assert (disk / "buckets" / str(claims.bucket)).is_dir()
        bad, fsync = first, os.fsync

        def sync(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").resolve().is_relative_to(bad.resolve() / "buckets"):
                raise OSError(errno.EIO, "a bad disk")
            fsync(handle)

        # The bucket whose turn comes first lies on the bad disk.
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            await reapers.reap("a")
        assert set(rows(cluster, *unneeded[first]).values()) == {"deleting"}
        assert rows(cluster, *unneeded[second]) == {}
        async with cluster.client("a", buckets[1]) as client:
            unneeded[second] = await an_unneeded_backup(client)
        mounted = first.with_name("elsewhere")
        first.rename(mounted)
        first.mkdir()
        await reapers.reap("a")
        assert set(rows(cluster, *unneeded[first]).values()) == {"deleting"}
        assert rows(cluster, *unneeded[second]) == {}
        first.rmdir()
        mounted.rename(first)
        await reapers.reap("a")
        assert rows(cluster, *unneeded[first]) == {}


async def test_what_cannot_be_unlinked_keeps_its_row_and_what_it_names(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = unneeded = await an_unneeded_backup(client)
        place = cluster.bucket_folder("a", claims.bucket) / listed.path
        body = place.read_bytes()
        place.unlink()
        place.mkdir()  # no file: unlinking it fails, for root as well
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {str(made): "deleting", str(listed): "deleting"}
        assert there(cluster, "a", claims, made, committed) == [True, False]
        place.rmdir()
        place.write_bytes(body)
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {}
        assert there(cluster, "a", claims, *unneeded) == [False] * 3
