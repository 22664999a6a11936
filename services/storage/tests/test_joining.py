"""What waits, and why: nodes of another version, a turn, room, a rescan; and how one becomes a home meanwhile."""

import asyncio
import shutil
from typing import Any

import pytest

from services.storage.sessions import entries
from services.storage.sessions.bodies import Entered
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store import copies, homes, nodes
from services.storage.store.buckets import lock
from services.storage.tests.cluster import SILENT_SECONDS, Cluster, a_body
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.tests.moving import (
    NEVER,
    a_bucket_on,
    by_hand,
    homes_of,
    order,
    placement,
    refused,
    seen,
    until,
    until_none,
)


async def test_a_home_that_joins_counts_as_having_nothing_until_all_that_it_lacks_is_entered(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "PAGE", 2)
    by_hand(cluster, "a", "b")
    async with cluster.up("a", "b") as [db, _]:
        claims = await a_bucket_on(cluster, "a")
        await until_none(cluster, "select 1 from nodes where not reconciled")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            bodies = [a_body() for _ in range(5)]
            names = [await client.put_pack(session, body) for body in bodies]
            async with db.worker() as unit:
                await lock(unit, claims.bucket)
                assert await homes.join(unit, claims.bucket, "b")
                assert await homes.enter_page(unit, claims.bucket)
            assert cluster.sql("select joining from homes where node_id = 'b'") == [(True,)]
            bucket = cluster.sql("select id from objects where sha256 = %s", bytes.fromhex(names[4].id))[0][0]
            async with db.worker() as unit:
                found = await copies.holders(unit, claims.bucket, bucket, SILENT_SECONDS)
            has = {one.node_id: one.has_copy for one in found}
            assert has == {"a": True, "b": False}
            # Also when what is entered so far has been fetched.
            await until_none(cluster, "select 1 from missing_copies")
            assert not (await cluster.describe("a")).copies_complete
            assert await client.get(session, names[4]) == bodies[4]
            # What the other home has lost is nowhere, also where that is not entered yet.
            await cluster.change(
                "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id, retry_at)"
                " select id, 'a', bucket_id, tenant_id, user_id, now() + interval '1 day' from objects"
            )
            assert await client.reserve(session, *names) == [str(name) for name in names]
            await cluster.change("delete from missing_copies where node_id = 'a'")
            # What is put now lies on that one alone.
            later = await client.put_pack(session, a_body())
            assert cluster.sql(
                "select m.node_id from missing_copies m join objects o on o.id = m.object_id where o.sha256 = %s",
                bytes.fromhex(later.id),
            ) == [("b",)]
        # A bucket at which another node is does not keep one from the others.
        async with db.worker() as another:
            assert await homes.may_enter(another, claims.bucket)
            await placement(db, "a").place()
        assert cluster.sql("select joining from homes where node_id = 'b'") == [(True,)]
        # Whoever comes next goes on.
        await placement(db, "a").place()
        assert cluster.sql("select joining from homes where node_id = 'b'") == [(False,)]
        await copies_are_complete(cluster, "a")
        assert cluster.files("a") == cluster.files("b")


async def test_what_a_joining_home_had_fetched_before_it_lost_its_disk_is_fetched_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "PAGE", 2)
    by_hand(cluster, "a", "b")
    async with cluster.up("a") as [db]:
        async with cluster.up("b"):
            claims = await a_bucket_on(cluster, "a")
            await until_none(cluster, "select 1 from nodes where not reconciled")
            async with cluster.client("a", claims) as client:
                session = await client.open()
                names = [await client.put_pack(session, a_body()) for _ in range(6)]
            async with db.worker() as unit:
                await lock(unit, claims.bucket)
                assert await homes.join(unit, claims.bucket, "b")
                for _ in range(2):
                    assert await homes.enter_page(unit, claims.bucket)
            await until_none(cluster, "select 1 from missing_copies")
            assert len(cluster.files("b")) == 4
        await cluster.falls_silent("b")
        await cluster.change("update nodes set reconciled = false where id = 'b'")
        shutil.rmtree(cluster.bucket_folder("b", claims.bucket))
        cluster.settings["b"] = cluster.settings["b"].model_copy(update={"replication_poll_seconds": NEVER})
        async with cluster.up("b"):
            await until_none(cluster, "select 1 from nodes where not reconciled")
            await placement(db, "a").place()
            assert cluster.sql("select joining from homes where node_id = 'b'") == [(False,)]
            assert len(cluster.sql("select 1 from missing_copies where node_id = 'b'")) == len(names)
            async with db.worker() as unit:
                assert (await homes.only_copies(unit, "a", claims.bucket, 10, SILENT_SECONDS))[0] == len(names)


async def an_earlier_version_runs(cluster: Cluster, node: str, since_seen: str, *, catalogue: int = 0) -> None:
    await cluster.change(
        "insert into nodes (id, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, reconciled, last_seen,"
        " catalogue) values (%s, 'nowhere:1', 'nowhere:2', '', 0, true, now() - %s::interval, %s)"
        " on conflict (id) do update set last_seen = excluded.last_seen, catalogue = excluded.catalogue",
        node,
        since_seen,
        catalogue,
    )


@pytest.mark.parametrize("catalogue", [0, 12])
async def test_no_home_changes_while_a_node_of_an_earlier_version_runs_or_may_go_on(
    cluster: Cluster, catalogue: int
) -> None:
    by_hand(cluster, "a", "b")
    async with cluster.up("a", "b") as [db, _]:
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            await client.put_pack(await client.open(), a_body())
        await until_none(cluster, "select 1 from nodes where not reconciled")
        for since_seen in ("-1 hour", "50 minutes"):
            await an_earlier_version_runs(cluster, "old", since_seen, catalogue=catalogue)
            await order(cluster, "a", "DrainNode", "a")
            await placement(db, "a").place()
            assert homes_of(cluster, claims) == {"a"}
            assert list((await seen(cluster, "b", "a")).waits) == [
                "1 of its buckets: upgrade all nodes first, for an earlier version ran less than an hour ago on old"
            ]
            await order(cluster, "a", "UndrainNode", "a")
        await order(cluster, "a", "DrainNode", "a")
        # It is stopped in good order, and its calls still come to their end.
        await cluster.falls_silent("old")
        for _ in range(2):
            async with db.worker() as unit:
                assert await nodes.outdated(unit, SILENT_SECONDS) == ["old"]
            await placement(db, "a").place()
            assert homes_of(cluster, claims) == {"a"}
        await cluster.change("update nodes set last_seen = last_seen - interval '1 hour' where id = 'old'")
        await placement(db, "a").place()
        assert homes_of(cluster, claims) == {"a", "b"}
        assert len(cluster.sql("select distinct catalogue from nodes where id <> 'old' and catalogue >= 12")) == 1
        await an_earlier_version_runs(cluster, "old", "50 minutes")
        await an_earlier_version_runs(cluster, "lost", "50 minutes")
        assert "Upgrade all nodes first" in await refused(cluster, "a", "RemoveNode", "lost", lost=True)
        await cluster.falls_silent("old")
        assert "Upgrade all nodes first" in await refused(cluster, "a", "RemoveNode", "lost", lost=True)
        # It is upgraded; a node that is lost itself is not waited for.
        await cluster.change("update nodes set catalogue = %s where id = 'old'", nodes.HOMES_CHANGE)
        assert (await order(cluster, "a", "RemoveNode", "lost", lost=True)).removed
        async with db.worker() as unit:
            assert await nodes.outdated(unit, SILENT_SECONDS) == []


async def test_all_buckets_get_their_turn_and_each_says_why_it_waits(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.upkeep.placement._PAGE", 2)
    by_hand(cluster, "a", "b")
    async with cluster.up("a", "b") as [db, _]:
        made = [await a_bucket_on(cluster, "a") for _ in range(7)]
        await until_none(cluster, "select 1 from nodes where not reconciled")
        await cluster.change("update buckets set bytes = %s where id <> %s", 1 << 60, made[5].bucket)
        await cluster.change("update buckets set braked = created where id = %s", made[6].bucket)
        await order(cluster, "a", "DrainNode", "a")
        one = placement(db, "a")
        for _ in range(4):
            await one.place()
        assert homes_of(cluster, made[5]) >= {"b"}
        found = cluster.sql("select waits from homes where bucket_id <> all(%s)", [one.bucket for one in made[5:]])
        assert found == [("no other node has room for it",)] * 5
        assert (await seen(cluster, "a", "a")).bytes == 6 << 60
        await cluster.change("update homes set waits = ''")
        assert list((await seen(cluster, "a", "a")).waits) == [
            "1 of its buckets: a rescan has not been through all nodes: `oort node rescan`, or `oort bucket release`",
            "6 of its buckets: its turn has not come yet",
        ]
        await order(cluster, "a", "UndrainNode", "a")
        await one.place()
        assert cluster.sql("select 1 from homes where waits <> ''") == []


async def test_a_caller_waits_only_so_long_for_a_bucket(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.storage.sessions.standing.PATIENCE_SECONDS", 0.1)
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            async with db.worker() as holder:
                await lock(holder, claims.bucket)
                assert await refusal_of(client.end(session)) == "UNAVAILABLE"
                # What needs another row waits for nobody.
                await client.beat(session)
            await client.end(session)


async def test_a_body_that_has_come_waits_for_a_bucket_for_longer_and_is_not_left_where_that_is_in_vain(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.sessions.standing.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("services.storage.transfer.patience._PAUSE_SECONDS", 0)
    tried = 0
    enter = entries.enter

    async def counting(*arguments: Any) -> Entered:
        nonlocal tried
        tried += 1
        return await enter(*arguments)

    monkeypatch.setattr(entries, "enter", counting)
    monkeypatch.setattr("services.storage.transfer.patience._LAST_TRY_SECONDS", 600)
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            async with db.worker() as holder:
                await lock(holder, claims.bucket)
                body = a_body()
                put = asyncio.ensure_future(client.put_pack(session, body))

                async def is_tried_again() -> bool:
                    return tried > 1

                await until(is_tried_again)
            assert await client.get(session, await put) == body
            before = cluster.files("a")
            monkeypatch.setattr("services.storage.transfer.patience._LAST_TRY_SECONDS", 0.2)
            async with db.worker() as holder:
                await lock(holder, claims.bucket)
                assert await refusal_of(client.put_pack(session, a_body())) == "UNAVAILABLE"
            assert cluster.files("a") == before
