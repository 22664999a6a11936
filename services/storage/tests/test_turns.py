"""Buckets that move wait for each other only as long as what is copied can go on."""

from domain.tokens import VaultClaims
from services.common.database import Database
from services.storage.store import homes
from services.storage.store.buckets import lock
from services.storage.tests.cluster import Cluster, a_body
from services.storage.upkeep.tests.moving import a_bucket_on, by_hand, homes_of, placement, seen, until_none

_AT_ONCE = 4


async def _a_pack_in_each(cluster: Cluster, made: list[VaultClaims]) -> None:
    await until_none(cluster, "select 1 from nodes where not reconciled")
    for claims in made:
        async with cluster.client("a", claims) as client:
            await client.put_pack(await client.open(), a_body())


async def _join(db: Database, bucket: VaultClaims, node: str) -> None:
    async with db.worker() as unit:
        await lock(unit, bucket.bucket)
        assert await homes.join(unit, bucket.bucket, node)
        while await homes.enter_page(unit, bucket.bucket):
            pass


async def _waits(cluster: Cluster, node: str) -> list[str]:
    return list((await seen(cluster, "c", node)).waits)


async def test_buckets_whose_drained_node_is_down_hold_up_those_of_no_other(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b", "c")
    async with cluster.up("b", "c") as [db, _]:
        async with cluster.up("a"):
            on_a = [await a_bucket_on(cluster, "a") for _ in range(_AT_ONCE)]
            on_b = await a_bucket_on(cluster, "b")
            await _a_pack_in_each(cluster, [*on_a, on_b])
        await cluster.falls_silent("a")
        await cluster.change("update nodes set state = 'draining' where id in ('a', 'b')")
        for claims in on_a:
            await _join(db, claims, "c")
        one = placement(db, "c")
        for _ in range(2):
            await one.place()
        assert homes_of(cluster, on_b) >= {"c"}
        assert await _waits(cluster, "a") == ["4 of its buckets: a is down"]


async def test_buckets_whose_new_home_is_down_hold_up_those_of_no_other(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b", "c", "n")
    async with cluster.up("a", "b", "c") as [db, _, _]:
        async with cluster.up("n"):
            on_a = [await a_bucket_on(cluster, "a") for _ in range(_AT_ONCE)]
            on_b = await a_bucket_on(cluster, "b")
            await _a_pack_in_each(cluster, [*on_a, on_b])
        await cluster.falls_silent("n")
        await cluster.change("update nodes set state = 'draining' where id in ('a', 'b')")
        for claims in on_a:
            await _join(db, claims, "n")
        one = placement(db, "c")
        for _ in range(2):
            await one.place()
        assert homes_of(cluster, on_b) >= {"c"}
        assert await _waits(cluster, "a") == ["4 of its buckets: n is down"]
