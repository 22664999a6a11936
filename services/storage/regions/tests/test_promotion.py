"""A bucket is written to on one cluster at a time, and what protects it goes with it."""

import socket

import grpc
import pytest
from oort.storage.v1 import regions_pb2, regions_pb2_grpc

from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.regions.tests.two_clusters import Regions, back_up, contents, full, until
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store import followed
from services.storage.store.followed import KNOWN_SINCE
from services.storage.tests.cluster import a_body


async def a_follower(regions: Regions) -> VaultClaims:
    """Of a vault with one backup, all of which it has."""
    claims = full(await regions.here.bucket("a"))
    async with regions.here.client("a", claims) as client:
        await back_up(client, a_body(), snapshot=b"one")
    await regions.complete(claims)
    return claims


async def handed_over(regions: Regions, claims: VaultClaims) -> None:
    """And all that it had is there."""
    seq = await regions.hand_over(claims.bucket)
    await regions.wait(claims.bucket, lambda one: one.upto_seq >= seq)


async def a_node_of_an_earlier_version(regions: Regions) -> None:
    """Of the first cluster, which says nothing of its buckets while one that was seen of late may come again."""
    await regions.here.change(
        "insert into nodes (id, public_endpoint, internal_endpoint, free_bytes, last_seen, catalogue)"
        " values ('old', 'localhost:1', 'localhost:1', 0, now(), %s)",
        KNOWN_SINCE - 1,
    )


async def test_a_bucket_has_the_object_lock_and_the_brake_of_where_it_was_after_a_promotion(regions: Regions) -> None:
    async with regions.up():
        locked, lost = await a_follower(regions), await a_follower(regions)
        await regions.here.change("update buckets set lock_days = 30")
        await handed_over(regions, locked)
        await regions.promote(locked.bucket)
        assert regions.there.sql("select lock_days from buckets where id = %s", locked.bucket) == [(30,)]
        await regions.here.change("update buckets set braked = now()")

        async def is_known() -> bool:
            return regions.there.sql("select source_lock_days, source_braked from follows") == [(30, True)]

        await until(is_known)
        # A longer one that it has here stays.
        await regions.there.change("update buckets set lock_days = 90 where id = %s", lost.bucket)
    async with regions.there.up("x"):
        await regions.promote(lost.bucket)
        found = regions.there.sql("select lock_days, braked is not null from buckets where id = %s", lost.bucket)
        assert found == [(90, True)]


async def test_a_bucket_that_the_brake_holds_is_not_handed_over(regions: Regions) -> None:
    async with regions.up():
        claims = await a_follower(regions)
        await regions.here.change("update buckets set braked = now()")
        with pytest.raises(grpc.aio.AioRpcError, match="brake"):
            await regions.hand_over(claims.bucket)
        assert (await regions.status(claims.bucket, regions.here)).writes_to == ""


async def test_a_bucket_whose_adoption_is_not_finished_is_neither_handed_over_nor_followed_in(regions: Regions) -> None:
    async with regions.up():
        claims = await a_follower(regions)
        await regions.here.change("update buckets set adopting = true")
        with pytest.raises(grpc.aio.AioRpcError, match="bucket adopt"):
            await regions.hand_over(claims.bucket)
        await regions.here.change("update buckets set adopting = false")
        await handed_over(regions, claims)
        await regions.promote(claims.bucket)
        await regions.here.change("update buckets set adopting = true")
        with pytest.raises(grpc.aio.AioRpcError, match="bucket adopt"):
            await regions.follow(claims, by=regions.here, existing=True)
        assert regions.here.sql("select count(*) from follows") == [(0,)]


async def test_nothing_is_promoted_beside_a_cluster_that_answers_unless_that_is_meant(regions: Regions) -> None:
    async with regions.up():
        claims = await a_follower(regions)
        with pytest.raises(grpc.aio.AioRpcError, match="oort bucket move"):
            await regions.promote(claims.bucket)
        assert (await regions.status(claims.bucket)).writes_to == "here"
        await regions.promote(claims.bucket, give_up=True)
        assert (await regions.status(claims.bucket)).writes_to == ""


async def test_what_was_handed_over_is_not_left_without_a_cluster_that_takes_it(regions: Regions) -> None:
    async with regions.up():
        moved, left = await a_follower(regions), await a_follower(regions)
        await handed_over(regions, moved)
        with pytest.raises(grpc.aio.AioRpcError, match="oort bucket promote"):
            await regions.promote(moved.bucket, give_up=True, devices_stay=True)
        await a_node_of_an_earlier_version(regions)
        with pytest.raises(grpc.aio.AioRpcError, match="here does not say whether"):
            await regions.promote(moved.bucket, give_up=True, devices_stay=True)
        await regions.here.change("delete from nodes where id = 'old'")
        assert (await regions.status(moved.bucket)).writes_to == "here"
        await regions.promote(moved.bucket, give_up=True)
        # Where the other one goes on taking what devices store, they may stay.
        await regions.promote(left.bucket, give_up=True, devices_stay=True)


async def test_what_another_cluster_has_lost_or_is_no_more_is_left_with_the_devices_where_they_are(
    regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with regions.up():
        lost, gone = await a_follower(regions), await a_follower(regions)
        await regions.there.change("update follows set source = 'another' where bucket_id = %s", gone.bucket)
        await regions.promote(gone.bucket, give_up=True, devices_stay=True)

        async def find_none(*_: object) -> None:
            return None

        monkeypatch.setattr(followed, "look", find_none)
        await regions.promote(lost.bucket, give_up=True, devices_stay=True)


async def test_a_bucket_that_was_handed_over_to_a_third_cluster_is_not_promoted_for_one_that_takes_backups(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = await a_follower(regions)
        await regions.here.change("update buckets set follows = 'third'")
        with pytest.raises(grpc.aio.AioRpcError, match="over to cluster third"):
            await regions.promote(claims.bucket)


async def test_a_node_there_that_hangs_does_not_hide_one_that_answers(regions: Regions) -> None:
    # Connections come to stand, and nobody answers.
    with socket.create_server(("localhost", 0)) as silent:
        async with regions.up():
            claims = await a_follower(regions)
            await regions.there.change(
                "update follows set source_endpoints = array[%s]", f"localhost:{silent.getsockname()[1]}"
            )
            with pytest.raises(grpc.aio.AioRpcError, match="oort bucket move"):
                await regions.promote(claims.bucket)


async def test_what_never_was_a_whole_vault_is_not_promoted_unless_that_is_meant(regions: Regions) -> None:
    async with regions.there.up("x"):
        async with regions.here.up("a"):
            claims = full(await regions.here.bucket("a"))
            async with regions.here.client("a", claims) as client:
                await back_up(client, a_body(), snapshot=b"one")
            folder = regions.here.bucket_folder("a", claims.bucket)
            folder.rename(folder.with_suffix(".away"))
            await regions.follow(claims)
            await regions.wait(claims.bucket, lambda one: one.problem != "")
        with pytest.raises(grpc.aio.AioRpcError, match="never had all"):
            await regions.promote(claims.bucket)
        await regions.promote(claims.bucket, give_up=True)


async def test_what_could_not_be_brought_stops_a_promotion(regions: Regions) -> None:
    async with regions.here.up("a"):
        async with regions.there.up("x"):
            claims = await a_follower(regions)
        body = a_body()
        async with regions.here.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
        lost = regions.here.bucket_folder("a", claims.bucket) / name.path
        lost.unlink()
        async with regions.there.up("x"):
            await regions.there.change("update follows set due = now()")
            await regions.wait(claims.bucket, lambda one: one.damaged_objects == 1)
            await handed_over(regions, claims)
            with pytest.raises(grpc.aio.AioRpcError, match="could not be read"):
                await regions.promote(claims.bucket)
            lost.write_bytes(body)
            await regions.look_now(claims.bucket)
            await regions.wait(claims.bucket, lambda one: not one.damaged_objects)
            await regions.promote(claims.bucket)
            assert contents(regions.there, claims.bucket) == contents(regions.here, claims.bucket)


async def test_what_could_not_all_be_read_is_not_promoted_for_a_whole_vault_when_its_cluster_is_gone(
    regions: Regions,
) -> None:
    async with regions.there.up("x"):
        async with regions.here.up("a"):
            claims = full(await regions.here.bucket("a"))
            async with regions.here.client("a", claims) as client:
                packs, _, _ = await back_up(client, a_body(), a_body(), snapshot=b"one")
            (regions.here.bucket_folder("a", claims.bucket) / packs[0].path).unlink()
            await regions.follow(claims)
            await regions.wait(claims.bucket, lambda one: "cannot be read there" in one.problem)
        with pytest.raises(grpc.aio.AioRpcError, match="never had all"):
            await regions.promote(claims.bucket)
        await regions.there.change("update follows set complete = true")  # as before that pack was stored
        with pytest.raises(grpc.aio.AioRpcError, match="could not be read"):
            await regions.promote(claims.bucket)
        await regions.promote(claims.bucket, give_up=True)


async def test_what_was_handed_over_is_taken_back_while_nothing_was_stored_on_the_other(regions: Regions) -> None:
    async with regions.here.up("a"):
        async with regions.there.up("x"):
            claims = await a_follower(regions)
            for _ in range(2):  # the same again answers the same
                await regions.hand_over(claims.bucket)
            await regions.hand_over(claims.bucket, "")
            async with regions.here.client("a", claims) as client:
                await back_up(client, a_body(), snapshot=b"two")
            await handed_over(regions, claims)
            await regions.promote(claims.bucket)
            with pytest.raises(grpc.aio.AioRpcError, match="to write to by now"):
                await regions.hand_over(claims.bucket, "")
        with pytest.raises(grpc.aio.AioRpcError, match="does not say that nothing was stored"):
            await regions.hand_over(claims.bucket, "")
        async with regions.here.client("a", claims) as client:
            assert await refusal_of(client.open(Purpose.BACKUP)) == "FOLLOWS"
            await regions.hand_over(claims.bucket, "", give_up=True)
            await client.open(Purpose.BACKUP)


async def test_a_bucket_that_was_promoted_without_a_hand_over_is_not_taken_for_this_clusters_by_mistake(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = await a_follower(regions)
        await regions.hand_over(claims.bucket, "")  # it only follows, and that is asked of it
        await regions.promote(claims.bucket, give_up=True)
        with pytest.raises(grpc.aio.AioRpcError, match="to write to by now"):
            await regions.hand_over(claims.bucket, "")
        # A region that burnt may be away for long.
        await regions.here.change("update followers set seen = now() - interval '31 days'")
        with pytest.raises(grpc.aio.AioRpcError, match="to write to by now"):
            await regions.hand_over(claims.bucket, "")
        await regions.hand_over(claims.bucket, "", give_up=True)
        # It followed in its turn, and was handed over: then nobody else writes to it.
        await regions.follow(claims, by=regions.here, existing=True)
        await regions.here.change("delete from follows")
        await regions.here.change("update buckets set follows = null")
        await regions.there.change("update buckets set follows = 'here'")
        await regions.hand_over(claims.bucket, "")


async def test_who_only_asks_is_no_follower_and_there_are_not_many(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = await regions.here.bucket("a")
        async with regions.here.internal("a", "storage", "x") as channel:
            stub = regions_pb2_grpc.RegionServiceStub(channel)
            asking = regions_pb2.LookRequest(bucket_id=str(claims.bucket), cluster="far")
            await stub.Look(asking)
            assert (await regions.status(claims.bucket, regions.here)).followers == []
            with pytest.raises(grpc.aio.AioRpcError, match="No cluster far follows"):
                await regions.hand_over(claims.bucket, "far")
            for name in ("", "a\nb", "n" * 256):
                asking.cluster = name
                assert await refusal_of(stub.Look(asking)) == "INVALID_ARGUMENT"
            asking.endpoints.append("localhost:1")
            for number in range(16):
                asking.cluster = f"region {number}"
                await stub.Look(asking)
            asking.cluster = "one too many"
            assert await refusal_of(stub.Look(asking)) == "NOT_ALLOWED"
            # One that was given up makes room, and is asked for nothing any more.
            await regions.here.change(
                "update followers set seen = now() - interval '31 days' where cluster = 'region 0'"
            )
            await stub.Look(asking)
            with pytest.raises(grpc.aio.AioRpcError, match="No cluster region 0 follows"):
                await regions.hand_over(claims.bucket, "region 0")
