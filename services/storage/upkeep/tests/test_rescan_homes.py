"""A rescan of nodes that were no homes any more, or were lost."""

import shutil
from collections.abc import Iterable

import pytest

from services.storage.sessions.tests.test_sessions import a_committed_snapshot
from services.storage.tests.cluster import Cluster, pack
from services.storage.upkeep.reconcile import Reconciler
from services.storage.upkeep.tests.moving import a_bucket_on, is_empty, order, refused, until_homes
from services.storage.upkeep.tests.test_healing import place_of
from services.storage.upkeep.tests.test_rescan import auth_knowing, auth_server, nodes, rescan

__all__ = ["auth_server", "nodes"]


def set_polls(cluster: Cluster, nodes: Iterable[str], **seconds: float) -> None:
    for node in nodes:
        cluster.settings[node] = cluster.settings[node].model_copy(update=seconds)


async def test_a_node_that_a_broken_rescan_made_a_home_lacks_what_was_not_looked_at(
    cluster: Cluster, nodes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(_self: object, _bucket: object) -> int:
        raise OSError(5, "Input/output error")

    set_polls(cluster, nodes, replication_poll_seconds=3600, placement_poll_seconds=3600)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            made, _, _ = await a_committed_snapshot(client)
        monkeypatch.setattr(Reconciler, "bucket", breaks)
        async with cluster.up("b"), auth_knowing(cluster, claims):
            shutil.copytree(cluster.bucket_folder("a", claims.bucket), cluster.bucket_folder("b", claims.bucket))
            place_of(cluster, "b", claims.bucket, made).unlink()
            [found] = await rescan(cluster, "b")
            assert (found.homes, len(found.failed)) == (1, 1)
        lacking = cluster.sql(
            "select o.kind from missing_copies m join objects o on o.id = m.object_id where m.node_id = 'b' order by 1"
        )
        assert lacking == [("data",), ("index",), ("keys",), ("snapshots",)]


async def test_what_a_lost_node_alone_had_is_copied_from_it_when_it_comes_back(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    set_polls(cluster, nodes, placement_poll_seconds=0.05)
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "b")
            async with cluster.client("a", claims) as client:
                made, _, _ = await a_committed_snapshot(client)
        await cluster.falls_silent("b")
        answer = await order(cluster, "a", "RemoveNode", "b", lost=True, give_up=True)
        assert (answer.removed, answer.given_up) == (True, 6)
        async with cluster.up("b"), auth_knowing(cluster, claims):
            await rescan(cluster, "b")
            await until_homes(cluster, claims, "a")
            await is_empty(cluster, "a", "b")
            assert cluster.sql("select copies from buckets") == [(1,)]
            async with cluster.client("a", claims) as client:
                assert pack(await client.get(await client.open(), made)) == made
    assert cluster.files("b") == []


async def test_a_former_home_is_one_again_where_the_homes_do_not_hold_all_that_it_has(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    set_polls(cluster, nodes, placement_poll_seconds=0.05)
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "a")
            async with cluster.client("a", claims) as client:
                made, _, _ = await a_committed_snapshot(client)
        await cluster.falls_silent("b")
        await cluster.change(
            "with home as (update homes set node_id = 'b' returning *) insert into clearings"
            " (bucket_id, node_id, tenant_id, user_id) select bucket_id, 'a', tenant_id, user_id from home"
        )
        async with auth_knowing(cluster, claims):
            await rescan(cluster, "a")
        async with cluster.client("a", claims) as client:
            assert pack(await client.get(await client.open(), made)) == made


async def test_a_lost_node_that_comes_back_is_taken_back_and_removed_only_with_what_it_has(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    set_polls(cluster, nodes, placement_poll_seconds=3600)
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "b")
            async with cluster.client("a", claims) as client:
                await a_committed_snapshot(client)
        await cluster.falls_silent("b")
        await order(cluster, "a", "RemoveNode", "b", lost=True, give_up=True)
        assert (await order(cluster, "a", "RemoveNode", "b")).removed
        async with cluster.up("b"), auth_knowing(cluster, claims):
            assert "`oort node rescan b` first" in await refused(cluster, "a", "UndrainNode", "b")
            await rescan(cluster, "b")
            assert "still holds 1 bucket," in await refused(cluster, "a", "RemoveNode", "b")
            assert (await order(cluster, "a", "UndrainNode", "b")).node.state == "serving"
