"""A rescan and the configs of vaults: no bucket comes back without its own, nor with another one."""

import pytest
from oort.storage.v1 import rescans_pb2, rescans_pb2_grpc

from domain.names import CONFIG
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.tests.test_rescan import (
    auth_knowing,
    auth_server,
    catalogue,
    lose_the_catalogue,
    nodes,
    rescan,
)

__all__ = ["auth_server", "nodes"]


async def finish(cluster: Cluster, node: str) -> int:
    async with cluster.internal(node) as channel:
        return (await rescans_pb2_grpc.RescanServiceStub(channel).Finish(rescans_pb2.FinishRequest())).released


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("unreadable", ["config", "snapshots"])
async def test_a_bucket_is_entered_with_its_config_or_not_at_all_and_holds_up_no_other(
    cluster: Cluster, unreadable: str
) -> None:
    async with cluster.up("a"):
        vaults = sorted([await cluster.bucket("a") for _ in range(2)], key=lambda claims: claims.bucket)
        for claims in vaults:
            async with cluster.client("a", claims) as client:
                await a_committed_snapshot(client)
    before = catalogue(cluster)[1:]
    await lose_the_catalogue(cluster)
    harmed = cluster.bucket_folder("a", vaults[0].bucket) / unreadable
    kept = harmed.rename(harmed.with_name("kept"))
    harmed.symlink_to(harmed)  # neither there nor not there, also to root
    async with cluster.up("a"), auth_knowing(cluster, *vaults):
        (found,) = await rescan(cluster, "a")
        assert [one.split(" ", 1)[0] for one in found.failed] == [str(vaults[0].bucket)]
        assert str(harmed) in found.failed[0]
        assert cluster.sql("select id from buckets") == [(vaults[1].bucket,)]
        async with cluster.client("a", vaults[0]) as client:
            assert await refusal_of(client.open()) == "NOT_FOUND"
        harmed.unlink()
        kept.rename(harmed)
        (found,) = await rescan(cluster, "a")
        assert (list(found.failed), catalogue(cluster)[1:]) == ([], before)


@pytest.mark.parametrize("has_it", ["a", "b"])
async def test_no_config_takes_the_place_of_one_that_an_older_catalogue_does_not_know(
    cluster: Cluster, nodes: tuple[str, str], has_it: str
) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
            await copies_are_complete(cluster, "a")
            await lose_the_catalogue(cluster, "sessions, objects")
            for node in nodes:
                if node != has_it:
                    (cluster.bucket_folder(node, claims.bucket) / "config").unlink()
            session = await client.open()
            assert await refusal_of(client.initialise(session, b"another")) == "DAMAGED"
        async with auth_knowing(cluster, claims), cluster.client("a", claims) as client:
            await rescan(cluster, *nodes)
            await copies_are_complete(cluster, "a")
            session = await client.open()
            assert not await client.initialise(session, b"another")
            assert await client.get(session, CONFIG) == b"config"


async def test_a_vault_without_config_stays_one_until_all_nodes_were_rescanned(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    async with cluster.up(*nodes):
        whole, empty = [await cluster.bucket("a", copies=2) for _ in range(2)]
        for claims in (whole, empty):
            async with cluster.client("a", claims) as client:
                await a_committed_snapshot(client)
        await copies_are_complete(cluster, "a")
    await lose_the_catalogue(cluster)
    (cluster.bucket_folder("a", whole.bucket) / "config").unlink()
    for kind in ("snapshots", "index", "."):
        for path in (cluster.bucket_folder("a", empty.bucket) / kind).iterdir():
            if path.is_file():
                path.unlink()
    async with cluster.up(*nodes), auth_knowing(cluster, whole, empty):
        (found,) = await rescan(cluster, "a")
        assert (found.keys, sorted(found.with_keys)) == (2, sorted(str(claims.bucket) for claims in (whole, empty)))
        for claims in (whole, empty):
            async with cluster.client("a", claims) as client:
                assert await refusal_of(client.initialise(await client.open(), b"another")) == "DAMAGED"
        await rescan(cluster, "b")
        await copies_are_complete(cluster, "a")
        await cluster.change("update buckets set braked = now() where id = %s returning 1", whole.bucket)
        assert await finish(cluster, "a") == 1, "a brake that something else has set stays"
        assert cluster.sql("select id from buckets where braked is not null") == [(whole.bucket,)]
        for claims in (whole, empty):
            async with cluster.client("a", claims) as client:
                assert await client.get(await client.open(), CONFIG) == b"config"
