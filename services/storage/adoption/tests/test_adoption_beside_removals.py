"""Adoptions of what was removed, is being removed, or would be: what a snapshot may need stays."""

import pytest

from domain.sessions import Purpose
from services.storage.adoption.tests.test_adoption import KINDS, adopting, copy_by_hand, some_files
from services.storage.removal.tests.test_reaper import (
    Crash,
    Reapers,
    Steps,
    a_bucket,
    an_unneeded_backup,
    counters_are_right,
    reapers,
    rows,
    there,
)
from services.storage.sessions.tests.test_sessions import a_committed_snapshot
from services.storage.tests.cluster import Cluster

__all__ = ["reapers"]


async def test_what_a_snapshot_may_need_outlives_the_basket_and_what_was_removed_on_purpose_does_not(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            needed = made, listed, removed = await an_unneeded_backup(client)
        [*_, (added, body)] = some_files()
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), (added, body))
        async with adopting(cluster, claims) as adoption:
            await reapers.reap("a")  # whose basket keeps nothing
            assert set(rows(cluster, *needed).values()) == {"condemned"}
            assert await adoption.all_of("a") == (1, [])
            assert (await adoption.adopt("a", "snapshots"))[-1].in_basket == 1
            assert await adoption.finish()
        await reapers.reap("a")
        assert rows(cluster, *needed, added) == {str(name): "live" for name in (made, listed, added)}
        assert there(cluster, "a", claims, made, listed, added, removed) == [True, True, True, False]
        assert counters_are_right(cluster)


async def test_what_was_entered_outlives_every_prune_until_all_is_in(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        files = some_files()
        packs = [name for name, _ in files[:2]]
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)

            async def prune() -> dict[str, str]:
                retention = await client.open(Purpose.RETENTION)
                await client.mark(retention)
                held = await client.condemn(retention, *packs)
                await client.end(retention)
                await reapers.reap("a")  # whose basket keeps nothing
                return held

            async with adopting(cluster, claims) as adoption:
                await adoption.adopt("a", "data")
                for kind in ("index", "snapshots"):
                    await adoption.adopt("a", kind, withheld="a node does not answer")
            held = await prune()
            assert set(held) == {str(name) for name in packs}
            assert all(f"`oort bucket adopt {claims.bucket}`" in why for why in held.values())
            assert there(cluster, "a", claims, *packs) == [True, True]
            async with adopting(cluster, claims) as adoption, adopting(cluster, claims) as other:
                assert await adoption.all_of("a") == (2, [])
                assert not await other.finish()  # which has not looked at all that the first one has
            assert set(await prune()) == set(held)
            async with adopting(cluster, claims) as adoption:
                assert await adoption.all_of("a") == (0, [])
                assert await adoption.finish()
            assert await prune() == {}
        assert there(cluster, "a", claims, *packs) == [False, False]


async def test_what_lay_in_the_basket_at_a_first_look_is_there_for_the_next_one(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await an_unneeded_backup(client)
        [*_, snap] = some_files()
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), snap)
        async with adopting(cluster, claims) as adoption:
            for kind in KINDS:
                await adoption.adopt("a", kind, withheld="a node does not answer")
        await reapers.reap("a")
        assert there(cluster, "a", claims, made, listed) == [True, True]
        async with adopting(cluster, claims) as adoption:
            assert await adoption.all_of("a") == (1, [])
        assert set(rows(cluster, made, listed).values()) == {"live"}


async def test_a_file_of_what_is_being_removed_goes_with_it_and_is_entered_when_it_comes_again(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = needed = await an_unneeded_backup(client)
        folder = cluster.bucket_folder("a", claims.bucket)
        body = (folder / made.path).read_bytes()
        # Decided, and not carried out: the node died.
        with pytest.raises(Crash):
            await reapers.of("a", steps=Steps(fatal=3)).reap()
        doomed = [name for name, state in rows(cluster, *needed).items() if state == "deleting"]
        assert doomed
        async with adopting(cluster, claims) as adoption:
            entered, left = await adoption.all_of("a")
        assert (entered, {one.name for one in left if one.passing}) == (0, set(doomed))
        await reapers.reap("a")
        assert there(cluster, "a", claims, *needed) == [False] * 3
        copy_by_hand(folder, (made, body))
        async with adopting(cluster, claims) as adoption:
            assert await adoption.all_of("a") == (1, [])
        await reapers.reap("a")
        assert rows(cluster, *needed) == {str(made): "live"}
        assert there(cluster, "a", claims, made) == [True]
