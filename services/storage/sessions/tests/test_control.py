"""Sessions as an operator lists and ends them."""

from datetime import timedelta
from uuid import UUID, uuid4

import grpc
from oort.storage.v1 import sessions_pb2, sessions_pb2_grpc

from domain.sessions import Purpose
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, an_unneeded_backup, reapers, rows
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests.cluster import Cluster

__all__ = ["reapers"]


async def listed(channel: grpc.aio.Channel, page_size: int = 0, **of: str) -> list[sessions_pb2.OpenSession]:
    stub = sessions_pb2_grpc.SessionControlServiceStub(channel)
    found: list[sessions_pb2.OpenSession] = []
    token = ""
    while True:
        request = sessions_pb2.ListSessionsRequest(page_size=page_size, page_token=token, **of)
        page = await stub.ListSessions(request)
        found += page.sessions
        token = page.next_page_token
        if not token:
            return found


async def ending(channel: grpc.aio.Channel, session: UUID, tenant: str = "") -> None:
    stub = sessions_pb2_grpc.SessionControlServiceStub(channel)
    await stub.EndSession(sessions_pb2.EndSessionRequest(session_id=str(session), tenant_id=tenant))


async def test_what_holds_the_reaper_back_is_shown_and_ended(cluster: Cluster, reapers: Reapers) -> None:
    cluster.node("a", basket_days=0)
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        other = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            restore = await client.open(Purpose.READ)
            unneeded = await an_unneeded_backup(client)
            later = await client.open(Purpose.BACKUP)
            found = await listed(channel, bucket_id=str(claims.bucket))
            assert [one.id for one in found] == [str(restore), str(later)]
            [(size,)] = cluster.sql("select sum(size) from objects where state = 'condemned'")
            assert [(one.held_objects, one.held_bytes) for one in found] == [(3, size), (0, 0)]
            assert (found[0].purpose, found[0].device_id) == ("read", str(claims.device))
            assert found[0].opened.seconds > 0
            await reapers.reap("a")
            assert set(rows(cluster, *unneeded).values()) == {"condemned"}
            await ending(channel, restore)
            await ending(channel, restore)  # again does nothing
            assert await refusal_of(client.beat(restore)) == "SESSION_OVER"
            await client.beat(later)
            await reapers.reap("a")
            assert rows(cluster, *unneeded) == {}
        async with cluster.client("a", other) as client:
            mine = [str(await client.open(Purpose.READ)) for _ in range(3)]
            pages = await listed(channel, page_size=2, tenant_id=str(other.tenant))
            assert [one.id for one in pages] == mine
            assert {str(later), *mine} <= {one.id for one in await listed(channel, page_size=1)}
            assert await refusal_of(ending(channel, UUID(mine[0]), str(claims.tenant))) == "NOT_FOUND"
            assert await refusal_of(ending(channel, uuid4())) == "NOT_FOUND"


async def test_what_the_waste_basket_keeps_is_held_by_no_session(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            await client.open(Purpose.READ)
            await an_unneeded_backup(client)
            assert [one.held_objects for one in await listed(channel)] == [0]
            await reapers.of("a", basket=timedelta(days=7)).reap()
            assert len(cluster.files("a")) == 6


async def test_what_several_sessions_see_counts_for_each_until_the_last_has_ended(
    cluster: Cluster, reapers: Reapers
) -> None:
    cluster.node("a", basket_days=0)
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims, other = await a_bucket(cluster), await a_bucket(cluster)
        async with cluster.client("a", other) as client:
            await client.open(Purpose.READ)
            await an_unneeded_backup(client)
        async with cluster.client("a", claims) as client:
            gone = await an_unneeded_backup(client)
            first = await client.open(Purpose.READ)
            early = await an_unneeded_backup(client)
            second = await client.open(Purpose.BACKUP)
            late = await an_unneeded_backup(client)
            third = await client.open(Purpose.READ)

            async def held() -> dict[UUID, int]:
                pages = await listed(channel, page_size=1, bucket_id=str(claims.bucket))
                assert {one.id: one.held_bytes for one in pages} == {
                    one.id: one.held_bytes for one in await listed(channel) if one.bucket_id == str(claims.bucket)
                }
                return {UUID(one.id): one.held_objects for one in pages}

            assert await held() == {first: 6, second: 3, third: 0}
            adoption = await client.open(Purpose.ADOPT)
            assert await held() == {first: 6, second: 3, third: 0, adoption: 9}
            await ending(channel, first)
            await reapers.reap("a")
            assert await held() == {second: 3, third: 0, adoption: 9}
            await ending(channel, adoption)
            await reapers.reap("a")
            assert rows(cluster, *gone, *early) == {}
            assert set(rows(cluster, *late).values()) == {"condemned"}
            assert await held() == {second: 3, third: 0}
            await ending(channel, second)
            await reapers.reap("a")
            assert rows(cluster, *late) == {}


async def test_what_lies_behind_something_in_the_basket_is_held_by_no_session(
    cluster: Cluster, reapers: Reapers
) -> None:
    """A clock that was ahead when an older object was condemned: the reaper takes neither, whoever ends."""
    async with (
        cluster.up("a"),
        cluster.internal("a") as channel,
        cluster.client("a", await a_bucket(cluster)) as client,
    ):
        await client.open(Purpose.READ)
        young, old = await an_unneeded_backup(client), await an_unneeded_backup(client)
        for names, days in ((young, -1), (old, 30)):
            await cluster.change(
                "update objects set condemned = now() - %s where sha256 = any(%s)",
                timedelta(days=days),
                [bytes.fromhex(name.id) for name in names],
            )
        assert [one.held_objects for one in await listed(channel)] == [0]
        await reapers.of("a", basket=timedelta(days=7)).reap()
        assert set(rows(cluster, *old).values()) == {"condemned"}


async def test_other_roles_than_auth_and_operators_are_refused(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a", "cluster") as channel:
        assert await refusal_of(listed(channel)) == "NOT_ALLOWED"
        assert await refusal_of(ending(channel, uuid4())) == "NOT_ALLOWED"
