"""The reaper beside fetches, puts and openings of what it removes."""

import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, an_unneeded_backup, reapers, rows, there
from services.storage.sessions.tests.test_session_order import holding, reason, waits
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store import copies, reaping
from services.storage.tests.cluster import Cluster, a_body
from services.storage.upkeep.replication import Replicator
from services.storage.volumes.staging import NO_SESSION, StagedName

__all__ = ["reapers"]


async def test_a_copy_that_is_being_fetched_is_waited_for(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a") as [db]:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = await an_unneeded_backup(client)
        folder = cluster.bucket_folder("a", claims.bucket)
        place, staged = folder / made.path, StagedName(claims.bucket, NO_SESSION, made, bytes.fromhex(made.id))
        incoming = folder.parents[1] / "incoming" / str(claims.bucket) / staged.file_name("01")
        await cluster.change(
            "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id, retry_at)"
            " select id, 'a', bucket_id, tenant_id, user_id, now() + interval '2 minutes'"
            " from objects where sha256 = %s",
            bytes.fromhex(made.id),
        )
        place.rename(incoming)
        await reapers.reap("a")
        assert rows(cluster, made, listed, committed) == {str(made): "deleting"}
        # A node that looks for work takes none that is being removed; the fetch places nothing from now on.
        await cluster.change("update missing_copies set retry_at = now()")
        async with db.worker() as unit:
            assert await copies.most_urgent(unit, "a", 10) == []
            [(object_id,)] = cluster.sql("select id from objects where state = 'deleting'")
            assert not await copies.renew(unit, object_id, bytes.fromhex(made.id), "a", 60)
        await reapers.reap("a")
        assert rows(cluster, made) == {}
        assert not incoming.exists()
        assert not place.exists()


async def test_a_fetch_that_had_its_claim_renewed_before_the_decision_comes_first(
    cluster: Cluster, reapers: Reapers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its renewal is held open while a reaper decides: the removal waits for its row, then for its claim."""

    async def sleeps(_replicator: Replicator) -> int:
        """It is the test that fetches."""
        return 0

    monkeypatch.setattr(Replicator, "heal", sleeps)
    async with cluster.up("a") as [db]:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await an_unneeded_backup(client)
        [(object_id,)] = cluster.sql("select id from objects where sha256 = %s", bytes.fromhex(made.id))
        await cluster.change(
            "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
            " select id, 'a', bucket_id, tenant_id, user_id from objects where id = %s",
            object_id,
        )
        async with db.worker() as unit:
            assert await copies.renew(unit, object_id, bytes.fromhex(made.id), "a", 60)
            reaping_now = await waits(cluster, reapers.reap("a"))
        await reaping_now
        assert rows(cluster, made) == {str(made): "deleting"}
        assert there(cluster, "a", claims, made) == [True]
        await cluster.change("delete from missing_copies")
        await reapers.reap("a")
        assert rows(cluster, made) == {}
        assert there(cluster, "a", claims, made) == [False]


async def test_a_staged_copy_of_what_is_removed_is_placed_by_nobody(cluster: Cluster, reapers: Reapers) -> None:
    """A put was entered and its coordinator died before it placed its copy; then the object was removed."""
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await an_unneeded_backup(client)
            [(session,)] = cluster.sql(
                "select u.session_id from object_users u join objects o on o.id = u.object_id where o.sha256 = %s",
                bytes.fromhex(made.id),
            )
        folder = cluster.bucket_folder("a", claims.bucket)
        staged = StagedName(claims.bucket, session, made, bytes.fromhex(made.id))
        incoming = folder.parents[1] / "incoming" / str(claims.bucket) / staged.file_name("01")
        (folder / made.path).rename(incoming)
        await reapers.reap("a")
        assert rows(cluster, made) == {}
        assert not incoming.exists()
    async with cluster.up("a"):
        assert there(cluster, "a", claims, made) == [False]


@pytest.mark.case(number=8)
async def test_a_file_is_never_removed_after_its_name_was_put_again(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            body = a_body()
            first = await client.open()
            await client.initialise(first)
            name = await client.put_pack(first, body)
            await client.end(first)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            await client.condemn(retention, name)
            await client.end(retention)
            await reapers.reap("a")
            session = await client.open()
            # Home b has still its old file, so nobody may enter the name.
            assert await refusal_of(client.put(session, name, body)) == "BEING_REMOVED"
            await reapers.reap("b")
            assert not (await client.put(session, name, body)).existed
            await reapers.reap("a", "b")
            assert there(cluster, "a", claims, name) == there(cluster, "b", claims, name) == [True]
            assert await client.get(session, name) == body


@pytest.mark.case(number=13)
async def test_an_opening_held_open_against_the_reaper_s_decision_holds_the_horizon(
    cluster: Cluster, reapers: Reapers
) -> None:
    """Case 13: open held against reap, and a reserve that waits for the decision."""
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            unneeded = made, *_ = await an_unneeded_backup(client)
            session = await client.open()
            async with holding(cluster, claims.bucket) as other:
                deciding = await waits(cluster, reapers.reap("a"))
                await other.execute(
                    "update sessions set opened_seq = (select min(condemned_seq) - 1 from objects) where id = %s",
                    (session,),
                )
            await deciding
            assert set(rows(cluster, *unneeded).values()) == {"condemned"}
            await client.end(session)
            async with holding(cluster, claims.bucket) as other:
                deciding = await waits(cluster, reapers.reap("a"))
                await other.execute(
                    "update objects set state = 'live', condemned_seq = null where sha256 = %s",
                    (bytes.fromhex(made.id),),
                )
            await deciding
            assert rows(cluster, *unneeded) == {str(made): "live"}


@pytest.mark.case(number=2)
@pytest.mark.case(number=13)
async def test_a_reserve_that_waits_for_the_decision_names_the_pack_gone(cluster: Cluster) -> None:
    async with cluster.up("a") as [db]:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await an_unneeded_backup(client)
            session = await client.open()
            async with db.worker() as unit:
                await unit.execute("select 1 from buckets where id = %s for update", (claims.bucket,))
                assert await reaping.doom(unit, claims.bucket, ObjectKind.PACK, None, 10) == 1
                reserving = await waits(cluster, client.reserve(session, made))
            assert await reserving == [str(made)]
            assert await reason(client.put(session, made, b"")) == "BEING_REMOVED"
