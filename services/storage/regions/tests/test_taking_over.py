"""One node at a time is at work on a bucket that follows, by what an operator has ordered last."""

import asyncio
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.database import Database
from services.storage.errors import SessionOver, SourceRefused
from services.storage.regions.passes import Own
from services.storage.regions.tests.two_clusters import PATIENCE_SECONDS, Regions, back_up, contents, full, until
from services.storage.removal import retention
from services.storage.sessions.lifecycle import beat
from services.storage.store import following
from services.storage.store.following import Claimed
from services.storage.store.sessions import NOBODY
from services.storage.tests.cluster import a_body, start_node


async def test_who_takes_a_bucket_over_ends_what_the_one_before_was_at(regions: Regions) -> None:
    async with regions.here.up("a"), regions.there.up("x") as [db]:
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
        await regions.follow(claims)
        await regions.caught_up(claims)
        await regions.wait(claims.bucket, lambda one: not one.behind_objects)
        taken = [await _taken(regions, db, node) for node in ("y", "z")]
        device = replace(full(claims, "there"), device=NOBODY)
        before, now = (Own(db, one, device) for one in taken)
        with pytest.raises(SourceRefused, match="another node"):
            await before.begin(Purpose.RETENTION)
        await now.begin(Purpose.REPLICATE)
        first, now.session = now.open_session, None
        await now.begin(Purpose.RETENTION)
        with pytest.raises(SessionOver):
            await beat(db, device, first)
        await regions.promote(claims.bucket, give_up=True)
        with pytest.raises(SessionOver):
            await retention.mark(db, device, now.open_session, uuid4())
        now.session = None
        with pytest.raises(SourceRefused):
            await now.begin(Purpose.REPLICATE)


async def test_an_order_that_is_given_again_ends_what_is_at_work_by_the_one_before(regions: Regions) -> None:
    async with regions.here.up("a"), regions.there.up("x") as [db]:
        claims = full(await regions.here.bucket("a"))
        await regions.follow(claims)
        await regions.wait(claims.bucket, lambda one: one.complete)
        taken = await _taken(regions, db, "y")
        await regions.follow(claims, removals=False)
        async with db.worker() as unit:
            assert not await following.renew(unit, taken, 60)
        with pytest.raises(SourceRefused, match="another node"):
            await Own(db, taken, full(claims, "there")).begin(Purpose.RETENTION)


async def test_a_follower_that_is_killed_goes_on_and_shows_no_snapshot_before_all_of_it_is_there(
    regions: Regions,
) -> None:
    bodies = [a_body(64 << 10) for _ in range(48)]
    slow = regions.there.settings["x"].model_copy(update={"region_bytes_per_second": 1 << 16, "region_streams": 1})
    fast, regions.there.settings["x"] = regions.there.settings["x"], slow
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, *bodies, snapshot=b"one")
        process = await start_node(regions.there, "x")
        try:
            await regions.follow(claims)
            await until(partial(_has_packs, regions, claims, 3))
        finally:
            await process.kill()
        kinds = [kind for kind, _ in contents(regions.there, claims.bucket)]
        # All of them may have come where the machine stood still for most of a minute.
        assert kinds.count("data") == len(bodies) or not {"index", "snapshots"} & set(kinds)
        regions.there.settings["x"] = fast
        async with regions.there.up("x"):
            await regions.caught_up(claims)
            await regions.wait(claims.bucket, lambda one: one.complete)


async def _has_packs(regions: Regions, claims: VaultClaims, count: int) -> bool:
    return sum(kind == "data" for kind, _ in contents(regions.there, claims.bucket)) >= count


async def _taken(regions: Regions, db: Database, node: str) -> Claimed:
    """The bucket as a node takes it that no other one is to have meanwhile."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await regions.there.change("update follows set due = now() where node_id <> 'x' or lease is null")
            async with db.worker() as unit:
                if found := await following.claim(unit, node, 1, 3600, places=64):
                    return found[0]
