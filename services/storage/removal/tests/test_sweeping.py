"""What the reaper forgets of sessions that are over: who used what, and the sessions themselves."""

import asyncio
from uuid import UUID

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, reapers
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.store import reaping
from services.storage.tests.cluster import Cluster, a_body

__all__ = ["reapers"]


def uses(cluster: Cluster, session: UUID) -> int:
    [(count,)] = cluster.sql("select count(*) from object_users where session_id = %s", session)
    return int(count)


async def test_who_used_what_is_kept_while_an_open_mark_may_ask_for_it(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            before, during = await client.open(), await client.open()
            for session in (before, during):
                await client.reserve(session, made)
            await client.end(before)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            await client.end(during)
            await reapers.reap("a")
            assert (uses(cluster, before), uses(cluster, during)) == (0, 1)
            assert set(await client.condemn(retention, made)) == {str(made)}
            await client.end(retention)
            await reapers.reap("a")
            assert uses(cluster, during) == 0


async def test_two_nodes_that_sweep_one_session_leave_no_use_of_it_behind(cluster: Cluster, reapers: Reapers) -> None:
    """A session that is called swept and has a use would never be forgotten, and end the node that tries."""
    async with cluster.up("a") as [db]:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            for _ in range(3):
                await client.put_pack(session, a_body())
            await client.end(session)
            await cluster.change("update sessions set ended = now() - interval '31 days' where id = %s", session)
            everything = uses(cluster, session)
            async with asyncio.timeout(60), db.worker() as first:
                assert await reaping.sweep(first, [session], 2)
                async with db.worker() as second:
                    assert await reaping.sweep(second, [session], 2)
            assert uses(cluster, session) == everything - 4
            assert cluster.sql("select swept from sessions where id = %s", session) == [(False,)]
            await reapers.reap("a")
            assert uses(cluster, session) == 0
            assert cluster.sql("select 1 from sessions where id = %s", session) == []


async def test_sessions_that_are_over_for_long_are_forgotten_and_still_over(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            old, young, still_open = await client.open(), await client.open(), await client.open()
            await client.end(old)
            await client.end(young)
            await cluster.change("update sessions set ended = now() - interval '31 days' where id = %s", old)
            await cluster.change("update sessions set opened = now() - interval '60 days' where id = %s", still_open)
            await reapers.reap("a")
            left = {row[0] for row in cluster.sql("select id from sessions")}
            assert {young, still_open} <= left
            assert old not in left
            assert await refusal_of(client.get(old, made)) == "SESSION_OVER"
            assert await refusal_of(client.list(old, ObjectKind.PACK)) == "SESSION_OVER"
            assert await refusal_of(client.put_pack(old, a_body())) == "SESSION_OVER"
            assert await refusal_of(client.beat(old)) == "SESSION_OVER"
