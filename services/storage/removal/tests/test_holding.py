"""Object lock and the brake on mass removal: what the node refuses to whoever may remove."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import protection_pb2, protection_pb2_grpc

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.storage.removal.holding import Brake
from services.storage.removal.tests.test_reaper import (
    Reapers,
    a_bucket,
    an_unneeded_backup,
    counters_are_right,
    reapers,
    rows,
)
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of, state
from services.storage.tests.cluster import Client, Cluster, a_body
from services.storage.tests.restics import a_rest_node

__all__ = ["reapers"]


async def lock(channel: grpc.aio.Channel, bucket: UUID, days: int, *, shorten: bool = False) -> int:
    stub = protection_pb2_grpc.ProtectionServiceStub(channel)
    request = protection_pb2.SetLockRequest(bucket_id=str(bucket), days=days, shorten=shorten)
    return (await stub.SetLock(request)).days_before


async def release(channel: grpc.aio.Channel, bucket: UUID) -> bool:
    stub = protection_pb2_grpc.ProtectionServiceStub(channel)
    return (await stub.Release(protection_pb2.ReleaseRequest(bucket_id=str(bucket)))).was_braked


async def grow_older(cluster: Cluster, days: float, *names: ObjectName) -> None:
    """As if objects had come earlier."""
    digests = [bytes.fromhex(name.id) for name in names]
    await cluster.change(
        "update objects set created = created - %s where sha256 = any(%s)", timedelta(days=days), digests
    )


async def why_not(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return str(refusal.value.details())


# Object lock


async def test_what_came_less_than_the_lock_ago_is_not_condemned_and_what_is_older_is(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            old, young = await a_committed_snapshot(client), await a_committed_snapshot(client)
            await grow_older(cluster, 6.9, *young)
            await grow_older(cluster, 7.1, *old)
            assert await lock(channel, claims.bucket, 7) == 0
            retention = await client.open(Purpose.RETENTION)
            await client.remove(retention, old[2])
            assert await refusal_of(client.remove(retention, young[2])) == "HELD"
            assert "it is locked until 2" in await why_not(client.remove(retention, young[2]))
            await client.mark(retention)
            held = await client.condemn(retention, old[1], young[1])
            assert list(held) == [str(young[1])]
            assert held[str(young[1])].startswith("it is locked until")
            assert await client.condemn(retention, old[0]) == {}
            # A retention may take back what it has just stored.
            mine = await client.commit(retention, a_body(200))
            await client.remove(retention, mine)
            await client.end(retention)
            assert set(rows(cluster, *young).values()) == {"live"}


async def test_a_lock_is_made_longer_by_anybody_and_shorter_only_where_that_is_said(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        assert await lock(channel, claims.bucket, 7) == 0
        assert await lock(channel, claims.bucket, 30) == 7
        assert await refusal_of(lock(channel, claims.bucket, 29)) == "INVALID_ARGUMENT"
        assert await refusal_of(lock(channel, claims.bucket, 40_000)) == "INVALID_ARGUMENT"
        assert await lock(channel, claims.bucket, 29, shorten=True) == 30


async def test_a_lock_of_one_day_is_told_as_one(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        await lock(channel, claims.bucket, 1)
        with pytest.raises(grpc.aio.AioRpcError, match="The lock has 1 day, and is made shorter with --shorten only"):
            await lock(channel, claims.bucket, 0)


async def test_what_was_condemned_before_there_was_a_lock_is_not_reaped_nor_what_was_condemned_after_it(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            young, old = await an_unneeded_backup(client), await an_unneeded_backup(client)
            await grow_older(cluster, 8, *old)
            await lock(channel, claims.bucket, 7)
            await reapers.reap("a")
            assert set(rows(cluster, *young, *old).values()) == {"condemned"}
            await lock(channel, claims.bucket, 0, shorten=True)
            await reapers.reap("a")
            assert rows(cluster, *young, *old) == {}


async def test_a_restic_is_told_with_403_and_its_index_files_and_packs_stay_as_well(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node, cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
        await grow_older(cluster, 8, made, listed)
        await lock(channel, claims.bucket, 7)
        async with node.restic(claims) as restic:
            await restic.lock()
            for name in (committed, listed, made):
                assert (await restic.delete(name)).status == 403
        assert set(rows(cluster, made, listed, committed).values()) == {"live"}


# The brake


async def several(client: Client, packs: int, size: int = 1000) -> list[ObjectName]:
    """Packs of so many bytes each, and the index file that lists them."""
    session = await client.open()
    await client.initialise(session)
    made = [await client.put_pack(session, a_body(size)) for _ in range(packs)]
    listed = await client.put_index(session, made)
    await client.end(session)
    return [*made, listed]


async def test_more_than_its_share_of_packs_in_a_day_sets_the_brake_which_an_operator_releases(
    cluster: Cluster,
) -> None:
    cluster.node("a", brake_floor_bytes=5000)
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, listed = await several(client, 10)
            *_, committed = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert await client.condemn(retention, *packs[:4]) == {}
            await client.end(retention)
            retention = await client.open(Purpose.RETENTION)  # another session, the same day
            await client.mark(retention)
            assert await client.condemn(retention, packs[4]) == {}
            refused = await client.condemn(retention, *packs[5:8])
            assert set(refused) == set(map(str, packs[5:8]))
            assert f"oort bucket release {claims.bucket}" in refused[str(packs[5])]
            # It holds everything from now on.
            assert list(await client.condemn(retention, listed)) == [str(listed)]
            assert await refusal_of(client.remove(retention, committed)) == "HELD"
            assert cluster.sql("select count(*) from buckets where braked is not null") == [(1,)]
            assert await release(channel, claims.bucket)
            assert not await release(channel, claims.bucket)
            assert await client.condemn(retention, *packs[5:9]) == {}
            # A day later what is there is weighed anew.
            await cluster.change("update buckets set released = released - interval '24 hours'")
            await client.end(retention)
            await several(client, 10)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            left = [ObjectName.parse(name) for name in await client.names(retention, ObjectKind.PACK)]
            assert await client.condemn(retention, *left[:6]) == {}
            assert len(await client.condemn(retention, *left[6:])) == len(left) - 6
            assert counters_are_right(cluster)


async def test_what_is_repacked_or_comes_anew_makes_up_for_what_goes(cluster: Cluster) -> None:
    cluster.node("a", brake_floor_bytes=5000)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, _ = await several(client, 10)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            repacked = [await client.put_pack(retention, a_body(1000)) for _ in range(6)]
            await client.put_index(retention, repacked)
            assert await client.condemn(retention, *packs) == {}
            await client.end(retention)


async def test_what_a_prune_that_was_broken_off_has_repacked_is_not_what_the_vault_had(cluster: Cluster) -> None:
    cluster.node("a", brake_floor_bytes=5000)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, _ = await several(client, 10)
            broken_off = await client.open(Purpose.RETENTION)
            await client.mark(broken_off)
            left_over = [await client.put_pack(broken_off, a_body(1000)) for _ in range(6)]
            await client.end(broken_off)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert await client.condemn(retention, *left_over) == {}
            repacked = [await client.put_pack(retention, a_body(1000)) for _ in range(6)]
            await client.put_index(retention, repacked)
            assert await client.condemn(retention, *packs) == {}
            await client.end(retention)


async def test_what_a_prune_has_repacked_while_an_operator_let_it_is_what_the_vault_has(cluster: Cluster) -> None:
    cluster.node("a", brake_floor_bytes=5000)
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, _ = await several(client, 10)
            await release(channel, claims.bucket)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            repacked = [await client.put_pack(retention, a_body(1000)) for _ in range(6)]
            await client.put_index(retention, repacked)
            assert await client.condemn(retention, *packs) == {}
            await client.end(retention)
            await cluster.change("update buckets set released = released - interval '24 hours'")
            await cluster.change("update sessions set opened = opened - interval '1 hour'")
            thief = await client.open(Purpose.RETENTION)
            await client.mark(thief)
            assert len(await client.condemn(thief, *repacked)) == 6


@pytest.mark.parametrize("hours_ago", [1, 25])
async def test_what_comes_while_a_session_removes_is_what_the_vault_had_as_is_what_it_had_within_a_day(
    cluster: Cluster, hours_ago: int
) -> None:
    cluster.node("a", brake_floor_bytes=2000)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *first, _ = await several(client, 4)
            backup = await client.open()
            more = [await client.put_pack(backup, a_body(1000)) for _ in range(16)]
            await client.put_index(backup, more)
            late = [await client.commit(backup, a_body(200)) for _ in range(50)]
            await client.end(backup)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            # As if it had removed something when there was little; then the backup came.
            ago = timedelta(hours=hours_ago)
            await cluster.change(
                "update sessions set last_removal = now() - %s, had_bytes = 4000 where purpose = 'retention'", ago
            )
            assert await client.condemn(retention, *more[:9]) == {}
            assert len(await client.condemn(retention, more[9], *first[:1])) == 2
            assert cluster.sql("select had_bytes, had_snapshots from sessions where purpose = 'retention'") == [
                (20_000, len(late))
            ]


async def test_the_most_that_a_long_session_had_is_forgotten_a_day_after_its_last_removal(cluster: Cluster) -> None:
    cluster.node("a", brake_floor_bytes=2000)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, _ = await several(client, 10)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert await client.condemn(retention, *packs[:5]) == {}
            await cluster.change("update sessions set last_removal = last_removal - interval '25 hours'")
            assert await client.condemn(retention, packs[5]) == {}
            assert await client.condemn(retention, packs[6]) == {}
            assert len(await client.condemn(retention, *packs[7:])) == 3


async def test_a_brake_that_a_snapshot_s_removal_sets_is_remembered_though_the_call_is_refused(
    cluster: Cluster,
) -> None:
    cluster.node("a", brake_floor_bytes=1)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
            session = await client.open()
            made = [await client.commit(session, a_body(200)) for _ in range(50)]
            await client.end(session)
            retention = await client.open(Purpose.RETENTION)
            for name in made[:45]:  # a tenth of 51 stays, rounded up
                await client.remove(retention, name)
            assert "mass removal" in await why_not(client.remove(retention, made[45]))
            assert len(cluster.sql("select 1 from buckets where braked is not null")) == 1


async def test_a_retention_takes_back_what_it_has_put_itself_under_the_brake_too(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            earlier = await client.open(Purpose.RETENTION)
            left_over = await client.commit(earlier, a_body(200))
            await client.end(earlier)
            await cluster.change("update buckets set braked = now()")
            retention = await client.open(Purpose.RETENTION)
            changed = await client.commit(retention, a_body(200))
            assert await refusal_of(client.remove(retention, old)) == "HELD"
            assert await refusal_of(client.remove(retention, left_over)) == "HELD"
            await client.remove(retention, changed)
            assert (state(cluster, old), state(cluster, changed)) == ("live", "condemned")
            assert counters_are_right(cluster)


async def test_a_mark_is_told_that_the_brake_holds_the_vault_before_anything_is_stored(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            await cluster.change("update buckets set braked = now()")
            retention = await client.open(Purpose.RETENTION)
            assert f"oort bucket release {claims.bucket}" in (await client.marked(retention)).held
            await client.end(retention)
            await release(channel, claims.bucket)
            assert (await client.marked(await client.open(Purpose.RETENTION))).held == ""


async def test_a_release_touches_no_session_that_has_removed_nothing(cluster: Cluster) -> None:
    async with cluster.up("a"), cluster.internal("a") as channel:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            await an_unneeded_backup(client)
        others = "select id, xmin::text from sessions where purpose = 'backup' order by id"
        before = cluster.sql(others)
        await release(channel, claims.bucket)
        assert cluster.sql(others) == before
        assert cluster.sql("select count(*) from sessions where last_removal is not null") == [(0,)]


async def test_one_who_puts_something_again_undoes_its_removal_for_the_brake_too(cluster: Cluster) -> None:
    cluster.node("a", brake_floor_bytes=5000)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *packs, _ = await several(client, 10)
            for _ in range(3):
                retention = await client.open(Purpose.RETENTION)
                await client.mark(retention)
                assert await client.condemn(retention, *packs[:5]) == {}
                await client.end(retention)
                backup = await client.open()
                assert await client.reserve(backup, *packs[:5]) == []
                await client.end(backup)
            assert state(cluster, packs[0]) == "live"
            assert counters_are_right(cluster)


@pytest.mark.parametrize(
    ("had", "left", "allowed"),
    [
        ((100, 1 << 40), (10, 1 << 40), True),
        ((100, 1 << 40), (9, 1 << 40), False),
        ((49, 1 << 40), (0, 1 << 40), True),
        ((1, 1 << 40), (1, 1 << 39), True),
        ((1, 1 << 40), (1, (1 << 39) - 1), False),
        ((1000, (1 << 30) - 1), (0, 0), True),
    ],
)
def test_what_the_brake_allows_by_default(had: tuple[int, int], left: tuple[int, int], allowed: bool) -> None:
    assert Brake().allows(had, left) is allowed
