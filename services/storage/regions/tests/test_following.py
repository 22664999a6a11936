"""A bucket that follows the one with its id on another cluster, filled from there while that is in use."""

from functools import partial
from typing import Any

import grpc
import pytest
from oort.storage.v1 import objects_pb2, objects_pb2_grpc, regions_pb2, sessions_pb2, sessions_pb2_grpc

from domain.names import ObjectKind
from domain.sessions import OPERATOR_METADATA, Purpose
from domain.tokens import VaultClaims
from services.storage.regions.source import Source
from services.storage.regions.tests.two_clusters import (
    Regions,
    back_up,
    contents,
    forget,
    full,
    until,
)
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store.followed import KNOWN_SINCE
from services.storage.tests.cluster import a_body, a_session_id, pack


async def test_what_is_there_and_what_comes_later_is_brought_with_the_same_names_and_bytes(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        bodies = [a_body(3 << 20), a_body()]
        async with regions.here.client("a", claims) as client:
            await back_up(client, *bodies, snapshot=b"first")
            followed = await regions.follow(claims)
            assert (followed.source, followed.removals) == ("here", True)
            await regions.caught_up(claims)
            await back_up(client, a_body(), snapshot=b"second")
            await regions.caught_up(claims)
        async with regions.there.client("x", full(claims, "there")) as reader:
            session = await reader.open(Purpose.READ)
            for body in bodies:
                assert await reader.get(session, pack(body)) == body
            assert len(await reader.names(session, ObjectKind.SNAPSHOT)) == 2
            config = [one.name for one in await reader.list(session, ObjectKind.CONFIG)]
            assert config == ["config"]
        done = await regions.wait(
            claims.bucket,
            lambda one: one.complete and not (one.behind_objects or one.behind_bytes or one.HasField("behind_since")),
        )
        assert done.problem == ""
        followers = (await regions.status(claims.bucket, regions.here)).followers
        assert [one.cluster for one in followers] == ["there"]


async def test_nothing_but_the_following_writes_to_a_follower_until_it_is_promoted(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"first")
        await regions.follow(claims)
        await regions.caught_up(claims)
        async with regions.there.client("x", full(claims, "there")) as client:
            for purpose in (Purpose.BACKUP, Purpose.RETENTION, Purpose.ADOPT):
                assert await refusal_of(client.open(purpose)) == "FOLLOWS"
            assert await refusal_of(client.open(Purpose.REPLICATE)) == "INVALID_ARGUMENT"
            reading = await client.open(Purpose.READ)
            assert await refusal_of(client.put(reading, pack(b"x"), b"x")) == "NOT_ALLOWED"
            before = await regions.promote(claims.bucket, give_up=True)
            assert before.source == "here"
            await back_up(client, a_body(), snapshot=b"its own")
            session = await client.open(Purpose.READ)
            assert len(await client.names(session, ObjectKind.SNAPSHOT)) == 2
        assert (await regions.status(claims.bucket)).following == []
        assert len(contents(regions.here, claims.bucket)) < len(contents(regions.there, claims.bucket))


async def test_what_is_removed_there_is_removed_here_or_kept_as_was_ordered(regions: Regions) -> None:
    async with regions.up():
        removing, keeping = full(await regions.here.bucket("a")), full(await regions.here.bucket("a"))
        for claims in (removing, keeping):
            async with regions.here.client("a", claims) as client:
                packs, index, snapshot = await back_up(client, a_body(), snapshot=b"old")
                await back_up(client, a_body(), snapshot=b"new")
                await regions.follow(claims, removals=claims is removing)
                await regions.caught_up(claims)
                before = contents(regions.there, claims.bucket)
                await forget(client, snapshot, index, packs)
                await back_up(client, a_body(), snapshot=b"newest")
                if claims is removing:
                    await regions.caught_up(claims)
                    basket = regions.there.sql(
                        "select kind from objects where bucket_id = %s and state = 'condemned' order by kind",
                        claims.bucket,
                    )
                    assert basket == [("data",), ("index",), ("snapshots",)]
                else:
                    await until(partial(_has_all, regions, keeping, before))
                    assert contents(regions.there, claims.bucket) >= before
        # Ordered otherwise, what was kept goes.
        await regions.follow(keeping, removals=True)
        await regions.caught_up(keeping)


async def _has_all(regions: Regions, claims: VaultClaims, before: set[tuple[str, bytes]]) -> bool:
    there = contents(regions.there, claims.bucket)
    return contents(regions.here, claims.bucket) <= there and before <= there


async def test_what_came_back_from_among_the_condemned_comes_back_to_the_follower_too(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, index, snapshot = await back_up(client, a_body(), snapshot=b"old")
            await back_up(client, a_body(), snapshot=b"new")
            await regions.follow(claims)
            await regions.caught_up(claims)
            await forget(client, snapshot, index, packs)
            await regions.caught_up(claims)
            # Nothing is compared as a whole any more: only what is new is asked for.
            await regions.there.change("update follows set removals = false, inventory_due = now() + interval '1 day'")
            session = await client.open()
            assert await client.reserve(session, *packs) == []
            await client.put_index(session, packs)
            await client.commit(session, b"again")
            await client.end(session)
            await regions.caught_up(claims)
        async with regions.there.client("x", full(claims, "there")) as reader:
            session = await reader.open(Purpose.READ)
            assert str(packs[0]) in await reader.names(session, ObjectKind.PACK)


async def test_a_seal_that_is_replaced_there_is_replaced_here(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            await regions.follow(claims, removals=False)
            await regions.caught_up(claims)
            session = await client.open(Purpose.RETENTION)
            await client.replace_seal(session, b"another seal")
            await client.end(session)
            await regions.caught_up(claims)


async def test_the_follower_goes_on_where_it_was_after_an_outage_of_either_side(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.there.up("x"), regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            await regions.follow(claims)
            await regions.caught_up(claims)
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"while it was away")
        async with regions.there.up("x"):
            await regions.there.change("update follows set due = now()")
            await regions.caught_up(claims)
            behind = await regions.wait(claims.bucket, lambda one: not one.behind_objects)
            assert behind.problem == ""
    async with regions.there.up("x"):
        lost = await regions.wait(claims.bucket, lambda one: one.problem != "")
        assert lost.complete
        async with regions.there.client("x", full(claims, "there")) as reader:
            session = await reader.open(Purpose.READ)
            assert len(await reader.names(session, ObjectKind.SNAPSHOT)) == 2
        async with regions.here.up("a"):
            async with regions.here.client("a", claims) as client:
                await back_up(client, a_body(), snapshot=b"after the fire")
            await regions.there.change("update follows set due = now()")
            await regions.caught_up(claims)


async def test_a_snapshot_comes_only_with_all_that_was_there_before_it(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, _, _ = await back_up(client, a_body(), snapshot=b"one")
        lost = regions.here.bucket_folder("a", claims.bucket) / packs[0].path
        away = lost.with_suffix(".away")
        lost.rename(away)
        # As if its disk did not answer: what is not said to be lost may come, and is waited for.
        folder = regions.here.bucket_folder("a", claims.bucket)
        folder.rename(folder.with_suffix(".away"))
        await regions.follow(claims)
        waiting = await regions.wait(claims.bucket, lambda one: one.problem != "")
        assert waiting.behind_objects >= 5
        assert not [kind for kind, _ in contents(regions.there, claims.bucket) if kind in ("index", "snapshots")]
        kept = folder.with_suffix(".away") / away.relative_to(folder)
        kept.rename(kept.with_suffix(lost.suffix))  # first, so that nobody finds the folder without it
        folder.with_suffix(".away").rename(folder)
        await regions.there.change("update follows set due = now()")
        await regions.caught_up(claims)


async def test_an_object_that_is_lost_there_holds_up_nothing_else_and_comes_when_it_is_stored_again(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        body = a_body()
        async with regions.here.client("a", claims) as client:
            await back_up(client, body, a_body(), snapshot=b"one")
            (regions.here.bucket_folder("a", claims.bucket) / pack(body).path).unlink()
            await regions.follow(claims)
            behind = await regions.wait(claims.bucket, lambda one: "cannot be read there" in one.problem)
            assert not behind.complete
            assert len(contents(regions.here, claims.bucket) - contents(regions.there, claims.bucket)) == 1
            session = await client.open()
            assert await client.put_pack(session, body) == pack(body)
            await regions.look_now(claims.bucket)
            await regions.caught_up(claims)
            await regions.wait(claims.bucket, lambda one: one.complete)


async def test_what_object_lock_holds_here_stays_with_all_that_it_may_need(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, index, snapshot = await back_up(client, a_body(), snapshot=b"old")
            await back_up(client, a_body(), snapshot=b"new")
            await regions.follow(claims)
            await regions.caught_up(claims)
            await regions.there.change("update buckets set lock_days = 30")
            # Its pack came long before, for another snapshot.
            await regions.there.change("update objects set created = now() - interval '90 days' where kind = 'data'")
            before = contents(regions.there, claims.bucket)
            await forget(client, snapshot, index, packs)
            held = await regions.wait(claims.bucket, lambda one: "held here" in one.problem)
            assert held.kept_objects > 0
            assert contents(regions.there, claims.bucket) == before
            await regions.there.change("update buckets set lock_days = 0")
            await regions.look_now(claims.bucket)
            await regions.caught_up(claims)


async def test_a_bucket_with_content_of_its_own_follows_only_when_that_is_meant(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        await regions.there.bucket("x", bucket=claims.bucket, tenant=claims.tenant, user=claims.user)
        stranger = await regions.there.bucket("x")
        async with (
            regions.here.client("a", claims) as client,
            regions.there.client("x", full(claims, "there")) as other,
        ):
            await back_up(client, a_body(), snapshot=b"one")
            session = await other.open()
            await other.initialise(session)
            name = await other.put_pack(session, a_body())
            with pytest.raises(grpc.aio.AioRpcError, match="--existing"):
                await regions.follow(claims)
            assert await other.reserve(session, name) == []
            await regions.follow(claims, existing=True)
            assert await refusal_of(other.put_pack(session, a_body())) == "SESSION_OVER"
            await regions.caught_up(claims)
            with pytest.raises(grpc.aio.AioRpcError, match="There is no bucket"):
                await regions.follow(stranger)


async def test_buckets_do_not_follow_each_other_nor_another_users(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
        await regions.follow(claims)
        await regions.caught_up(claims)
        with pytest.raises(grpc.aio.AioRpcError, match="follow that one"):
            await regions.follow(claims, by=regions.here, existing=True)
        strange = await regions.here.bucket("a")
        await regions.there.bucket("x", bucket=strange.bucket)
        with pytest.raises(grpc.aio.AioRpcError, match="another user"):
            await regions.follow(strange)
        with pytest.raises(grpc.aio.AioRpcError, match="follows no other cluster"):
            await regions.promote(strange.bucket)


async def test_a_bucket_does_not_become_another_vault(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        await regions.there.bucket("x", bucket=claims.bucket, tenant=claims.tenant, user=claims.user)
        async with (
            regions.here.client("a", claims) as client,
            regions.there.client("x", full(claims, "there")) as other,
        ):
            await client.initialise(await client.open())
            session = await other.open()
            await other.initialise(session, b"another config")
            with pytest.raises(grpc.aio.AioRpcError, match="another vault"):
                await regions.follow(claims, existing=True)
            await other.put_pack(session, a_body())


async def test_a_node_of_another_cluster_reads_and_does_no_more(regions: Regions) -> None:
    async with regions.up():
        claims = await regions.here.bucket("a")
        metadata = tuple(zip(OPERATOR_METADATA, map(str, (claims.bucket, claims.tenant, claims.user)), strict=True))
        async with regions.here.internal("a", "storage", "x") as channel:
            sessions = sessions_pb2_grpc.SessionServiceStub(channel)
            reading = sessions_pb2.OpenRequest(session_id=str(a_session_id()), purpose=Purpose.READ)
            await sessions.Open(reading, metadata=metadata)
            for purpose in (Purpose.BACKUP, Purpose.RETENTION):
                request = sessions_pb2.OpenRequest(session_id=str(a_session_id()), purpose=purpose)
                assert await refusal_of(sessions.Open(request, metadata=metadata)) == "NOT_ALLOWED"
            listing = objects_pb2.ListRequest(session_id=reading.session_id, kind="keys")
            assert (await objects_pb2_grpc.ObjectServiceStub(channel).List(listing, metadata=metadata)).objects == []
        async with regions.here.internal("a", "auth", "x") as channel:
            opening = sessions_pb2_grpc.SessionServiceStub(channel).Open(reading, metadata=metadata)
            assert await refusal_of(opening) == "NOT_ALLOWED"


async def test_nothing_is_followed_while_a_node_runs_that_knows_nothing_of_it(regions: Regions) -> None:
    old = (
        "insert into nodes (id, public_endpoint, internal_endpoint, free_bytes, last_seen, catalogue)"
        f" values ('old', 'localhost:1', 'localhost:1', 0, now(), {KNOWN_SINCE - 1})"
    )
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        for cluster in (regions.here, regions.there):
            await cluster.change(old)
            with pytest.raises(grpc.aio.AioRpcError, match="earlier version run: old"):
                await regions.follow(claims)
            await cluster.change("delete from nodes where id = 'old'")
        await regions.follow(claims)


@pytest.mark.parametrize("seal", [b"seal", b""])
async def test_a_look_that_finds_nothing_new_opens_no_session_there(regions: Regions, seal: bytes) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session, seal=seal)
            await client.end(session)
        await regions.follow(claims)
        await regions.caught_up(claims)
        # The end of its session there is the last that it does.
        found = await regions.wait(
            claims.bucket, lambda one: [(one.upto_seq,)] == regions.here.sql("select seq from buckets")
        )
        opened = regions.here.sql("select count(*) from sessions")
        for _ in range(3):
            seen = found.seen.ToNanoseconds()
            found = await regions.wait(claims.bucket, lambda one, seen=seen: one.seen.ToNanoseconds() > seen)  # type: ignore[misc] # mypy infers no default
        assert regions.here.sql("select count(*) from sessions") == opened


async def test_what_nobody_expected_of_one_bucket_stops_neither_the_others_nor_the_node(
    regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with regions.up():
        odd, other = full(await regions.here.bucket("a")), full(await regions.here.bucket("a"))
        for claims in (odd, other):
            await regions.follow(claims)
            await regions.wait(claims.bucket, lambda one: one.complete)
        look = Source.look

        async def fails_for_one(source: Source, *args: Any, **named: Any) -> regions_pb2.LookResponse:
            if source.bucket == odd.bucket:
                raise RuntimeError("nobody expected this")
            return await look(source, *args, **named)

        monkeypatch.setattr(Source, "look", fails_for_one)
        told = await regions.wait(odd.bucket, lambda one: one.problem != "")
        assert "node x" in told.problem
        async with regions.here.client("a", other) as client:
            await back_up(client, a_body(), snapshot=b"one")
        await regions.caught_up(other)
        monkeypatch.undo()

        async def is_well() -> bool:
            await regions.there.change("update follows set due = now() where lease is null")
            return (await regions.following(odd.bucket)).problem == ""

        await until(is_well)
