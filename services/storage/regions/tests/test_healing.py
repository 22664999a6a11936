"""What no home of a cluster has whole comes back from the other cluster that has the bucket."""

import asyncio
from uuid import uuid4

import grpc
import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.common.errors import Unavailable
from services.common.testing.clock import ManualClock
from services.storage.peers import Peers
from services.storage.regions.healing import OtherRegion, OtherRegions
from services.storage.regions.source import Source
from services.storage.regions.tests.two_clusters import PATIENCE_SECONDS, Regions, back_up, full
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.upkeep.tests.test_healing import altered


async def test_an_object_that_rots_on_every_disk_is_healed_from_the_follower_and_the_other_way_round(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        body = a_body(3 << 20)
        async with regions.here.client("a", claims) as client:
            await back_up(client, body, snapshot=b"one")
            await regions.follow(claims)
            await regions.caught_up(claims)
            await regions.wait(claims.bucket, lambda one: one.complete)
            for cluster, node in ((regions.here, "a"), (regions.there, "x")):
                place = cluster.bucket_folder(node, claims.bucket) / pack(body).path
                place.write_bytes(altered(body))
                await _read_and_heal(cluster, node, claims.bucket)
                assert place.read_bytes() == body
            session = await client.open(Purpose.READ)
            assert await client.get(session, pack(body)) == body


async def test_what_is_lost_in_both_is_lost_and_what_nobody_follows_is_asked_of_nobody(regions: Regions) -> None:
    async with regions.up():
        followed, alone = [full(await regions.here.bucket("a")) for _ in range(2)]
        body = a_body()
        for claims in (followed, alone):
            async with regions.here.client("a", claims) as client:
                await back_up(client, body, snapshot=b"one")
                if claims is followed:
                    await regions.follow(claims)
                    await regions.caught_up(claims)
                    (regions.there.bucket_folder("x", claims.bucket) / pack(body).path).unlink()
                (regions.here.bucket_folder("a", claims.bucket) / pack(body).path).unlink()
                session = await client.open()
                assert await refusal_of(client.get(session, pack(body))) == "DAMAGED"
                assert str(pack(body)) in await client.names(session, ObjectKind.PACK)
                # Both are still served, and a backup that has the data brings it back.
                await client.put_pack(session, body)
                assert await client.get(session, pack(body)) == body


async def _read_and_heal(cluster: Cluster, node: str, bucket: object) -> None:
    """A scrub, and until it has healed what it has found."""
    await cluster.change("update verified_copies set verified = to_timestamp(0)")
    await cluster.change(
        "insert into scrubs (bucket_id, node_id, tenant_id, user_id) select id, %s, tenant_id, user_id from buckets"
        " where id = %s on conflict (bucket_id, node_id) do update set asked = now(), done = null, entered = false",
        node,
        bucket,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not cluster.sql("select 1 from scrubs where done is not null and damaged = 1"):  # noqa: ASYNC110 - it is a node that reads
            await asyncio.sleep(0.05)
        while cluster.sql("select 1 from missing_copies"):  # noqa: ASYNC110 - it is a node that heals
            await asyncio.sleep(0.05)


async def test_a_cluster_that_does_not_answer_is_left_alone_for_a_minute() -> None:
    asked: list[str] = []

    class Away(Peers):
        """Nobody is there."""

        def __init__(self) -> None:
            pass

        def channel(self, endpoint: str) -> grpc.aio.Channel:
            asked.append(endpoint)
            raise Unavailable(what=endpoint)

    peers, clock = Away(), ManualClock()
    regions = OtherRegions(None, peers, clock, 1)  # type: ignore[arg-type] # the database is asked for nothing

    async def reads(name: str) -> None:
        source = Source(peers, uuid4(), [name], seconds=1)
        with pytest.raises(Unavailable):
            async with regions.reading(OtherRegion(name, source, uuid4(), uuid4())):
                pass

    for _ in range(3):
        await reads("far")
    await reads("farther")
    await clock.advance(61)
    await reads("far")
    assert asked == ["far", "farther", "far"]
