"""When all of a bucket is compared again, what a pass asks for, and where."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from oort.storage.v1 import regions_pb2, regions_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from domain.sessions import OPERATOR_METADATA, Purpose
from services.common.errors import Unavailable
from services.storage.errors import SourceRefused
from services.storage.regions.source import Source
from services.storage.regions.tests.two_clusters import Regions, back_up, contents, forget, full, until
from services.storage.store.followed import KNOWN_SINCE
from services.storage.tests.cluster import a_body, a_session_id


async def test_a_pass_is_shown_what_was_put_before_it_began_and_so_has_an_end(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        metadata = tuple(zip(OPERATOR_METADATA, map(str, (claims.bucket, claims.tenant, claims.user)), strict=True))
        async with regions.here.client("a", claims) as client, regions.here.internal("a", "storage", "x") as channel:
            packs, index, snapshot = await back_up(client, a_body(), a_body(), snapshot=b"one")
            reading = sessions_pb2.OpenRequest(session_id=str(a_session_id()), purpose=Purpose.READ)
            await sessions_pb2_grpc.SessionServiceStub(channel).Open(reading, metadata=metadata)
            # What is removed is seen still, and so is what came back; what is put anew is the next pass's.
            await forget(client, snapshot, index, packs)
            session = await client.open()
            assert await client.reserve(session, packs[0]) == []
            await client.put_pack(session, a_body())

            request = regions_pb2.ListChangesRequest(
                bucket_id=str(claims.bucket), session_id=reading.session_id, kind="data", page_size=100
            )
            listed = await regions_pb2_grpc.RegionServiceStub(channel).ListChanges(request)
            assert {change.name for change in listed.changes} == {str(pack) for pack in packs}


async def test_what_is_held_here_is_compared_again_with_the_ordinary_inventory(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, index, snapshot = await back_up(client, a_body(), snapshot=b"one")
            await regions.complete(claims)
            await regions.there.change("update buckets set lock_days = 30")
            await forget(client, snapshot, index, packs)
            await regions.wait(claims.bucket, lambda one: one.kept_objects > 0)
            assert due_in(regions) > timedelta(hours=20)


async def test_what_could_not_be_brought_is_tried_again_soon_and_then_ever_later(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.there.up("x"):
            await regions.complete(claims)
        async with regions.here.client("a", claims) as client:
            session = await client.open()
            lost = await client.put_pack(session, a_body())
        (regions.here.bucket_folder("a", claims.bucket) / lost.path).unlink()
        async with regions.there.up("x"):
            await regions.there.change("update follows set due = now()")
            await regions.wait(claims.bucket, lambda one: one.damaged_objects == 1)
            assert due_in(regions) <= timedelta(minutes=15)
            for times, minutes in ((1, 15), (2, 30), (3, 60)):
                await regions.look_now(claims.bucket)
                await until(partial(has_fallen_short, regions, times))
                assert timedelta(minutes=minutes - 5) < due_in(regions) <= timedelta(minutes=minutes)


async def test_a_cluster_is_found_at_the_addresses_that_it_says_when_none_that_was_given_is_left(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            await regions.follow(claims)
            await regions.caught_up(claims)
            await regions.there.change("update follows set endpoints = '{localhost:1}'")
            await back_up(client, a_body(), snapshot=b"two")
            await regions.caught_up(claims)
            # And the ones that were given do when it says others that nobody reaches from here.
            given = regions.here.settings["a"].internal_endpoint
            await regions.there.change(
                "update follows set endpoints = array[%s], source_endpoints = '{localhost:1}'", given
            )
            await back_up(client, a_body(), snapshot=b"three")
            await regions.caught_up(claims)


async def test_what_came_back_by_a_node_of_an_earlier_version_there_comes_when_that_is_upgraded(
    regions: Regions,
) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, index, snapshot = await back_up(client, a_body(), snapshot=b"one")
            await back_up(client, a_body(), snapshot=b"two")
            await regions.complete(claims)
            await forget(client, snapshot, index, packs)
            await regions.caught_up(claims)
            await regions.wait(claims.bucket, lambda one: one.problem == "")
            await regions.here.change(
                "insert into nodes (id, public_endpoint, internal_endpoint, free_bytes, last_seen, catalogue)"
                " values ('old', 'localhost:1', 'localhost:1', 0, now(), %s)",
                KNOWN_SINCE - 1,
            )
            await regions.wait(claims.bucket, lambda one: "earlier version" in one.problem)
            session = await client.open()
            assert await client.reserve(session, *packs) == []
            await regions.here.change("update objects set revived_seq = null")  # which that node would not have written
            await client.end(session)
            await regions.here.change("delete from nodes where id = 'old'")

            async def is_caught_up() -> bool:
                await regions.there.change("update follows set due = now() where lease is null")
                return contents(regions.here, claims.bucket) == contents(regions.there, claims.bucket)

            await until(is_caught_up)


async def test_all_is_compared_again_also_when_the_last_look_of_a_pass_is_refused(
    regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, was_refused = Source.look, False

    async def look_once(self: Source, *asked: Any, **named: Any) -> regions_pb2.LookResponse:
        nonlocal was_refused
        if was_refused:
            raise Unavailable(what="node x")
        if asked[3:] in ((), (None,)):  # in no session: before the first pass
            return await look(self, *asked, **named)
        was_refused = True
        raise SourceRefused(detail="not now")

    monkeypatch.setattr(Source, "look", look_once)
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            await regions.follow(claims)
            await regions.wait(claims.bucket, lambda one: "node x" in one.problem)
            assert contents(regions.here, claims.bucket) == contents(regions.there, claims.bucket)
            assert due_in(regions) <= timedelta(0)


async def has_fallen_short(regions: Regions, times: int) -> bool:
    return regions.there.sql("select shortfalls from follows") == [(times,)]


def due_in(regions: Regions) -> timedelta:
    [(seconds,)] = regions.there.sql("select extract(epoch from inventory_due - now())::float from follows")
    return timedelta(seconds=seconds)
