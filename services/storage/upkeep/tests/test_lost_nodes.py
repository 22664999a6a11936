"""What a lost node had is made again elsewhere, what has the fewest copies first, or given up by name."""

import pytest

from services.storage.store import copies, homes
from services.storage.tests.cluster import Cluster, a_body
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.tests.moving import (
    NEVER,
    QUICK,
    a_bucket_on,
    by_hand,
    homes_of,
    order,
    quick,
    refused,
    remove_file,
    until_homes,
    until_none,
)
from services.storage.volumes.pace import Pace


async def test_a_lost_node_is_replaced_and_what_it_alone_had_is_given_up_by_name_only(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "PAGE", 1)
    quick(cluster, "a", "b", "c")
    async with cluster.up("a", "c"):
        async with cluster.up("b"):
            shared = await a_bucket_on(cluster, "a", "b")
            alone = await a_bucket_on(cluster, "b")
            names = {}
            body = a_body()
            for claims in (shared, alone):
                async with cluster.client("a", claims) as client:
                    session = await client.open()
                    names[claims] = await client.put_pack(session, body)
        await until_none(cluster, "select 1 from nodes where not reconciled")
        await cluster.falls_silent("b")
        told = await refused(cluster, "a", "RemoveNode", "b", lost=True)
        assert told.startswith("Only node b has a whole copy of 1 object (")
        assert str(alone.bucket) in told
        assert homes_of(cluster, shared) == {"a", "b"}
        answer = await order(cluster, "a", "RemoveNode", "b", lost=True, give_up=True)
        assert (answer.removed, answer.given_up) == (True, 1)
        assert list(answer.names) == [f"{alone.bucket} {names[alone]}"]
        await until_homes(cluster, shared, "a", "c")
        await until_none(cluster, f"select 1 from missing_copies where bucket_id = '{shared.bucket}'")
        async with cluster.client("c", alone) as client:
            # Whoever still has it sends it again.
            session = await client.open()
            assert await client.reserve(session, names[alone]) == [str(names[alone])]
            await client.put(session, names[alone], body)
            assert await client.get(session, names[alone]) == body
        await copies_are_complete(cluster, "a")


async def test_a_copy_on_a_node_that_is_down_too_does_not_spare_one_on_a_lost_node(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b", "c")
    async with cluster.up("c"):
        async with cluster.up("a", "b"):
            claims = await a_bucket_on(cluster, "a", "b")
            async with cluster.client("a", claims) as client:
                await client.put_pack(await client.open(), a_body())
            await copies_are_complete(cluster, "a")
        for down in ("a", "b"):
            await cluster.falls_silent(down)
        assert "a whole copy of 1 object (" in await refused(cluster, "c", "RemoveNode", "a", lost=True)
        assert homes_of(cluster, claims) == {"a", "b"}


async def test_what_has_the_fewest_copies_is_fetched_first_and_paid_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []

    async def spend(_self: Pace, size: int) -> None:
        paid.append(size)

    monkeypatch.setattr(Pace, "spend", spend)
    by_hand(cluster, "a", "b", "c")
    for name in ("a", "b", "c"):
        cluster.settings[name] = cluster.settings[name].model_copy(update={"replication_poll_seconds": NEVER})
    async with cluster.up("a", "b", "c") as [db, _, _]:
        claims = await a_bucket_on(cluster, "a", "b", "c")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, a_body()) for _ in range(4)]
        ids = [cluster.sql("select id from objects where sha256 = %s", bytes.fromhex(name.id))[0][0] for name in names]
        for number, (nodes, attempts) in enumerate(
            [(("c",), 0), (("b", "c"), 3), (("a", "b", "c"), 1), (("a", "b", "c"), 0)]
        ):
            for node in nodes:
                await cluster.change(
                    "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id, attempts)"
                    " values (%s, %s, %s, %s, %s, %s)",
                    *(ids[number], node, claims.bucket, claims.tenant, claims.user, attempts),
                )
        async with db.worker() as unit:
            # One that may lie here after all comes before all, and one that was looked for in vain after all.
            assert await copies.most_urgent(unit, "c", 10) == [ids[3], ids[1], ids[0], ids[2]]
    for name in ("a", "b", "c"):
        cluster.settings[name] = cluster.settings[name].model_copy(update={"replication_poll_seconds": QUICK})
    remove_file(cluster, "c", claims, names[0])
    async with cluster.up("a", "b", "c"):
        await copies_are_complete(cluster, "a")
    assert paid == [1000]


async def test_a_bucket_that_has_lost_a_home_is_told_of(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a", "b")
        assert (await cluster.describe("a")).short_buckets == 0
        await cluster.change("delete from homes where bucket_id = %s and node_id = 'b'", claims.bucket)
        assert (await cluster.describe("a")).short_buckets == 1
