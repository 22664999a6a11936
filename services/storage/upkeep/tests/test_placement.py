"""Nodes are drained and taken back while vaults are in use, and nothing that was acknowledged is lost."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from oort.storage.v1 import objects_pb2

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.store import homes
from services.storage.store.buckets import lock
from services.storage.tests.cluster import Client, Cluster, a_body, pack, start_node
from services.storage.tests.kept import Kept, OnDisk, on_s3
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.placement import ADOPTING
from services.storage.upkeep.tests.moving import (
    NEVER,
    a_bucket_on,
    by_hand,
    homes_of,
    is_empty,
    order,
    placement,
    quick,
    refused,
    remove_file,
    seen,
    until,
    until_homes,
    until_it_waits,
    until_none,
)
from services.storage.volumes import marker


async def test_a_node_is_drained_removed_and_taken_back_while_a_vault_is_in_use(cluster: Cluster) -> None:
    quick(cluster, "a", "b", "c")
    async with cluster.up("a", "b", "c"):
        claims = await a_bucket_on(cluster, "a", "b")
        async with cluster.client("a", claims) as client:
            parent = (await a_committed_snapshot(client))[-1]
            session = await client.open(parent=parent)
            bodies = {await client.put_pack(session, body): body for body in (a_body(), a_body())}
            drained = (await order(cluster, "c", "DrainNode", "a")).node
            assert (drained.id, drained.state) == ("a", "draining")
            async with asyncio.timeout(60):
                while homes_of(cluster, claims) != {"b", "c"}:
                    body = a_body()
                    bodies[await client.put_pack(session, body)] = body
            await is_empty(cluster, "b", "a")
            assert cluster.files("a") == []
            assert cluster.files("b") == cluster.files("c")
            await copies_are_complete(cluster, "b")
            await client.put_index(session, list(bodies))
            await client.commit(session, b"a snapshot that began before")
            for through in ("a", "b", "c"):
                async with cluster.client(through, claims) as reader:
                    for name, body in bodies.items():
                        assert await reader.get(session, name) == body
        other = await cluster.bucket("a", copies=2)
        assert homes_of(cluster, other) == {"b", "c"}
        assert (await order(cluster, "b", "RemoveNode", "a")).removed
        assert (await seen(cluster, "b", "a")).state == "removed"
        await order(cluster, "b", "UndrainNode", "a")
        await order(cluster, "b", "DrainNode", "b")
        await until_homes(cluster, claims, "a", "c")
        async with cluster.client("b", claims) as client:
            for name, body in bodies.items():
                assert await client.get(session, name) == body


async def test_a_home_stays_while_its_successor_is_down(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a") as [db]:
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "a")
            async with cluster.client("a", claims) as client:
                session = await client.open()
                name = await client.put_pack(session, a_body())
            await order(cluster, "a", "DrainNode", "a")
            await placement(db, "a").place()
            assert homes_of(cluster, claims) == {"a", "b"}
            await copies_are_complete(cluster, "a")
            await placement(db, "a").place()
        await cluster.falls_silent("b")
        # Even if it had looked at its disk before.
        await cluster.change("update homes set compared = now() + interval '1 hour' where node_id = 'b'")
        for _ in range(3):
            await placement(db, "a").place()
        assert homes_of(cluster, claims) == {"a", "b"}
        assert list((await seen(cluster, "a", "a")).waits) == ["1 of its buckets: b is down"]
        del cluster.settings["b"]
        quick(cluster, "b")
        async with cluster.up("b"):
            await until_homes(cluster, claims, "b")
            async with cluster.client("b", claims) as client:
                assert pack(await client.get(await client.open(), name)) == name


async def test_a_home_stays_until_its_successor_has_looked_at_its_disk_again(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a") as [db]:
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "a")
            async with cluster.client("a", claims) as client:
                session = await client.open()
                body = a_body()
                name = await client.put_pack(session, body)
            await order(cluster, "a", "DrainNode", "a")
            await placement(db, "a").place()
            await copies_are_complete(cluster, "a")
        # It loses its disk while it is down, and is started again: for some seconds nobody knows of either.
        shutil.rmtree(cluster.bucket_folder("b", claims.bucket))
        await cluster.change("update nodes set last_seen = now() + interval '1 hour', reconciled = true where id = 'b'")
        # What it has compared for an earlier move says nothing, whatever the clock was then.
        await cluster.change("update homes set compared = now() + interval '1 hour' where node_id = 'b'")
        for _ in range(3):
            await placement(db, "a").place()
        assert homes_of(cluster, claims) == {"a", "b"}
        del cluster.settings["b"]
        quick(cluster, "b")
        async with cluster.up("b"):
            await until_homes(cluster, claims, "b")
            async with cluster.client("b", claims) as client:
                assert await client.get(session, name) == body


async def test_whoever_becomes_a_home_lacks_all_from_that_moment_on(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a", "b") as [db, _]:
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
        async with db.worker() as unit:
            await lock(unit, claims.bucket)
            assert await homes.join(unit, claims.bucket, "b")
            while await homes.enter_page(unit, claims.bucket):
                pass
            cursor = await unit.execute("select count(*) from missing_copies where node_id = 'b'")
            assert await cursor.fetchone() == (len(cluster.sql("select 1 from objects")),)
            assert not await homes.join(unit, claims.bucket, "b")


async def test_a_put_to_a_home_that_leaves_meanwhile_counts_for_nothing_there(cluster: Cluster) -> None:
    quick(cluster, "a", "b")
    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("b", claims) as client:
            session = await client.open()
            await client.put_pack(session, a_body())
            go_on = asyncio.Event()
            body = a_body()
            slow = asyncio.ensure_future(a_slow_put(client, session, body, go_on))

            async def is_begun() -> bool:
                return any(name.endswith(".part") for name in cluster.files("a"))

            await until(is_begun)
            await order(cluster, "b", "DrainNode", "a")
            await until_homes(cluster, claims, "b")
            # It could not be told from one whose copy counts, were it a home again before the put has ended.
            await order(cluster, "b", "UndrainNode", "a")
            await order(cluster, "b", "DrainNode", "b")
            await until_it_waits(cluster, "a", "b", "1 of its buckets: no other node has room for it")
            assert homes_of(cluster, claims) == {"b"}
            go_on.set()
            assert await refusal_of(slow) == "TOO_FEW_COPIES"
            await client.put(session, pack(body), body)
            await until_homes(cluster, claims, "a")
            await is_empty(cluster, "a", "b")
            assert await client.get(session, pack(body)) == body
        assert cluster.files("b") == []


async def a_slow_put(client: Client, session: Any, body: bytes, go_on: asyncio.Event) -> None:
    async def requests() -> AsyncIterator[objects_pb2.PutRequest]:
        header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(body)), size=len(body))
        yield objects_pb2.PutRequest(header=header)
        yield objects_pb2.PutRequest(frame=body[:10])
        await go_on.wait()
        yield objects_pb2.PutRequest(frame=body[10:])

    await client.objects.Put(requests(), metadata=client.metadata)


async def test_a_home_stays_while_files_that_were_copied_by_hand_are_adopted(cluster: Cluster) -> None:
    quick(cluster, "a", "b", "c")
    async with cluster.up("a", "b", "c"):
        claims = await a_bucket_on(cluster, "a", "b")
        await cluster.change("update buckets set adopting = true")
        await order(cluster, "c", "DrainNode", "a")
        await until_it_waits(cluster, "c", "a", f"1 of its buckets: {ADOPTING}")
        assert homes_of(cluster, claims) == {"a", "b", "c"}
        await cluster.change("update buckets set adopting = false")
        await until_homes(cluster, claims, "b", "c")


async def test_a_drain_that_could_not_end_is_refused(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b", "c")
    async with cluster.up("a", "b"):
        await a_bucket_on(cluster, "a", "b")
        told = await refused(cluster, "a", "DrainNode", "a")
        assert told.startswith("Node a cannot be drained: it has 1 bucket of 2 copies, and it would leave 1 node up")
        assert "Add a node" in told
        async with cluster.up("c"):
            answers = await asyncio.gather(
                order(cluster, "a", "DrainNode", "a"), order(cluster, "b", "DrainNode", "b"), return_exceptions=True
            )
            assert sorted(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == [False, True]
            await order(cluster, "c", "UndrainNode", "a")
            await order(cluster, "c", "UndrainNode", "b")
            await order(cluster, "c", "DrainNode", "c")
            assert "no node d" in await refused(cluster, "a", "DrainNode", "d")
            assert "not drained" in await refused(cluster, "a", "RemoveNode", "b")
            assert "is up" in await refused(cluster, "a", "RemoveNode", "b", lost=True)


async def test_no_bucket_moves_to_a_disk_without_room_and_one_taken_back_gets_nothing_of_it(cluster: Cluster) -> None:
    quick(cluster, "a", "b")
    quick(cluster, "c", low_water_bytes=1 << 60)
    async with cluster.up("a", "b", "c"):
        claims = await a_bucket_on(cluster, "a", "b")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, a_body())
        await order(cluster, "a", "DrainNode", "a")
        await until_it_waits(cluster, "a", "a", "1 of its buckets: no other node has room for it")
        assert "no other node has room" in await refused(cluster, "b", "RemoveNode", "a")
        await order(cluster, "a", "UndrainNode", "a")
        await until_none(cluster, "select 1 from homes where leaving is not null or waits <> ''")
        assert homes_of(cluster, claims) == {"a", "b"}
        async with cluster.client("b", claims) as client:
            assert pack(await client.get(session, name)) == name


async def test_a_node_taken_back_keeps_its_buckets_and_the_new_home_is_cleared(cluster: Cluster) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a") as [db]:
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "a")
            async with cluster.client("a", claims) as client:
                session = await client.open()
                name = await client.put_pack(session, a_body())
        del cluster.settings["b"]
        cluster.node("b", placement_poll_seconds=NEVER, replication_poll_seconds=NEVER)
        async with cluster.up("b"):
            await until_none(cluster, "select 1 from nodes where not reconciled")
            await order(cluster, "a", "DrainNode", "a")
            await placement(db, "a").place()
            assert homes_of(cluster, claims) == {"a", "b"}
            await order(cluster, "a", "UndrainNode", "a")
        del cluster.settings["b"]
    del cluster.settings["a"]
    quick(cluster, "a", "b")
    async with cluster.up("a", "b"):
        await until_none(cluster, "select bucket_id from homes group by bucket_id having count(*) > 1")
        [home] = homes_of(cluster, claims)
        [other] = {"a", "b"} - {home}
        await until_none(cluster, "select 1 from clearings")
        assert cluster.files(other) == []
        async with cluster.client(other, claims) as client:
            assert pack(await client.get(session, name)) == name


def alter(cluster: Cluster, claims: VaultClaims, name: ObjectName) -> None:
    (cluster.bucket_folder("a", claims.bucket) / name.path).write_bytes(b"x" * 1000)


async def test_what_is_whole_nowhere_keeps_a_node_from_being_drained_until_it_is_stored_again(cluster: Cluster) -> None:
    quick(cluster, "a", "b")
    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            body = a_body()
            kept, rotten = await client.put_pack(session, a_body()), await client.put_pack(session, body)
        alter(cluster, claims, rotten)
        async with cluster.client("b", claims) as client:
            assert await refusal_of(client.get(session, rotten)) == "DAMAGED"
        await order(cluster, "a", "DrainNode", "a")

        async def waits_for_it() -> bool:
            return any("whole nowhere" in why for why in (await seen(cluster, "a", "a")).waits)

        await until(waits_for_it)
        assert f"buckets/{claims.bucket}/{rotten.path}" in cluster.files("a")
        assert "goes with --lost" in await refused(cluster, "b", "RemoveNode", "a", give_up=True)
        async with cluster.client("b", claims) as client:
            # It goes when a backup has stored it again.
            session = await client.open()
            assert await client.reserve(session, rotten) == [str(rotten)]
            await client.put(session, rotten, body)
            await is_empty(cluster, "a", "a")
            assert pack(await client.get(session, rotten)) == rotten
            assert pack(await client.get(session, kept)) == kept
        assert (await order(cluster, "a", "RemoveNode", "a")).removed


@pytest.fixture(params=["disk", "s3"])
def kept(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[dict[str, Kept]]:
    """Where the nodes a, b and c keep bodies."""
    with ExitStack() as stack:
        if request.param == "disk":
            yield {name: OnDisk(cluster.folder / name) for name in "abc"}
        else:
            bucket = request.getfixturevalue("s3_bucket")
            yield {name: stack.enter_context(on_s3(bucket, name, cluster.folder)) for name in "abc"}


def objects_of(kept: Kept) -> list[str]:
    return [path for path in kept.files() if path.startswith("buckets/")]


@pytest.mark.long
async def test_a_drain_goes_on_after_nodes_are_killed(cluster: Cluster, kept: dict[str, Kept]) -> None:
    for node, own in kept.items():
        quick(cluster, node, **own.settings())
    running = {node: await start_node(cluster, node) for node in kept}
    try:
        claims = await a_bucket_on(cluster, "a", "b")
        async with cluster.client("c", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, a_body(100_000)) for _ in range(40)]
        await order(cluster, "c", "DrainNode", "a")
        for node in ("a", "c", "b", "a"):
            await running[node].kill()
            running[node] = await start_node(cluster, node)
        await is_empty(cluster, "b", "a")
        assert homes_of(cluster, claims) == {"b", "c"}
        await copies_are_complete(cluster, "b")
        assert [len(objects_of(own)) for own in kept.values()] == [0, 40, 40]
        async with cluster.client("a", claims) as client:
            session = await client.open()
            for name in names:
                assert pack(await client.get(session, name)) == name
    finally:
        for process in running.values():
            await process.kill()


async def test_a_disk_that_was_away_is_compared_anew_before_its_node_counts(cluster: Cluster) -> None:
    quick(cluster, "a")
    async with cluster.up("a"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            name = await client.put_pack(await client.open(), a_body())
        await until_none(cluster, "select 1 from nodes where not reconciled")
        marked = cluster.settings["a"].data_dirs[0] / marker.NAME
        marked.rename(marked.with_name("away"))
        await until_none(cluster, "select 1 from nodes where reconciled")
        remove_file(cluster, "a", claims, name)
        marked.with_name("away").rename(marked)
        await until_none(cluster, "select 1 from nodes where not reconciled")
        assert cluster.sql("select node_id from missing_copies") == [("a",)]


async def test_an_older_copy_of_the_database_has_no_files_of_a_home_removed_once_more(cluster: Cluster) -> None:
    quick(cluster, "a", "b")
    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, a_body())
            await order(cluster, "a", "DrainNode", "a")
            await until_homes(cluster, claims, "b")
            await is_empty(cluster, "b", "a")
            over = (cluster.settings["a"].data_dirs[0] / "cleared").read_text().split()
            await order(cluster, "a", "UndrainNode", "a")
            await order(cluster, "a", "DrainNode", "b")
            await until_homes(cluster, claims, "a")
            await is_empty(cluster, "a", "b")
            name = await client.put_pack(session, a_body())
        before = cluster.files("a")
        assert any(name.path in path for path in before)
        assert len(over) == 1
        await cluster.change("update nodes set state = 'serving'")
        # The catalogue as it was while the files were being removed for the first time.
        await cluster.change("update homes set node_id = 'b'")
        await cluster.change(
            "insert into clearings (bucket_id, node_id, tenant_id, user_id, id)"
            " select bucket_id, 'a', tenant_id, user_id, %s from homes",
            over[0],
        )
        await until_none(cluster, "select 1 from clearings")
        assert cluster.files("a") == before


async def test_buckets_with_objects_that_are_whole_nowhere_hold_up_no_others(cluster: Cluster) -> None:
    quick(cluster, "a", "b")
    async with cluster.up("a", "b"):
        made = []
        for claims in [await a_bucket_on(cluster, "a") for _ in range(5)]:
            async with cluster.client("a", claims) as client:
                made.append((claims, await client.put_pack(await client.open(), a_body())))
        made.sort(key=lambda one: one[0].bucket)
        for claims, name in made[:4]:
            alter(cluster, claims, name)
            async with cluster.client("b", claims) as client:
                assert await refusal_of(client.get(await client.open(), name)) == "DAMAGED"
        await order(cluster, "a", "DrainNode", "a")
        await until_homes(cluster, made[4][0], "b")
