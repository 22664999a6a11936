"""What is due, and how far it is, as the nodes of the cluster that follows share it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.common.database import Database
from services.storage.regions.following import Follower
from services.storage.regions.tests.two_clusters import Regions
from services.storage.store import following
from services.storage.store.following import Behind, Claimed


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node takes any work."""

    async def waits(_follower: Follower) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Follower, "run", waits)


async def follows(regions: Regions, source: str) -> None:
    """A bucket `there` that nobody has looked at yet."""
    claims = await regions.there.bucket("x")
    await regions.there.change(
        "insert into follows (bucket_id, tenant_id, user_id, source, endpoints, removals)"
        " select id, tenant_id, user_id, %s, '{localhost:1}', true from buckets where id = %s",
        source,
        claims.bucket,
    )


async def claimed(db: Database, node: str, places: int, taken: int = 0) -> list[Claimed]:
    """By a node of so many places, of which some are taken."""
    async with db.worker() as unit:
        return await following.claim(unit, node, places - taken, 3600, places=places)


async def test_of_one_source_a_node_takes_so_few_buckets_that_others_find_a_place(regions: Regions) -> None:
    async with regions.there.up("x") as [db]:
        for source in ("slow", "slow", "slow", "other"):
            await follows(regions, source)
        taken = await claimed(db, "x", 6)
        assert sorted(one.source for one in taken) == ["other", "slow", "slow"]
        assert await claimed(db, "x", 6) == []
        assert [one.source for one in await claimed(db, "y", 6)] == ["slow"]
        [slow, *_] = [one for one in taken if one.source == "slow"]
        async with db.worker() as unit:
            await following.let_go(unit, slow, 0.0, "", compare_all=False)
        assert [one.bucket_id for one in await claimed(db, "x", 6)] == [slow.bucket_id]


async def test_sources_that_keep_what_they_were_given_leave_places_to_one_that_comes_later(regions: Regions) -> None:
    async with regions.there.up("x") as [db]:
        for source in ("silent", "mute"):
            for _ in range(4):
                await follows(regions, source)
        taken = await claimed(db, "x", 6)
        assert sorted(one.source for one in taken) == ["mute", "mute", "silent", "silent"]
        assert await claimed(db, "x", 6, len(taken)) == []
        for source in ("late", "later"):
            await follows(regions, source)
            more = await claimed(db, "x", 6, len(taken))
            assert [one.source for one in more] == [source]
            taken += more
        assert len(taken) == 6


async def test_one_source_alone_has_half_of_the_places_and_many_have_one_each(regions: Regions) -> None:
    async with regions.there.up("x") as [db]:
        for _ in range(4):
            await follows(regions, "first")
        assert len(await claimed(db, "x", 6)) == 3
        for number in range(4):
            for _ in range(2):
                await follows(regions, f"source {number}")
        assert sorted(one.source for one in await claimed(db, "y", 4)) == ["first", "source 0", "source 1", "source 2"]


async def test_what_is_old_there_and_came_back_has_waited_since_the_look_before(regions: Regions) -> None:
    async with regions.there.up("x") as [db]:
        await follows(regions, "here")
        [one] = await claimed(db, "x", 2)

        async def look(objects: int, age: timedelta) -> datetime | None:
            behind = Behind(objects, objects, age.total_seconds(), 0, braked=False, endpoints=[])
            async with db.worker() as unit:
                await following.note_behind(unit, one, behind)
                found = await following.get(unit, one.bucket_id)
            return found.behind_since if found else None

        months = timedelta(days=90)
        first = await look(2, months)
        assert first is not None
        assert datetime.now(UTC) - first > timedelta(days=89)  # it has never been asked before
        assert await look(0, timedelta()) is None
        came_back = await look(2, months)
        assert came_back is not None
        assert datetime.now(UTC) - came_back < timedelta(days=1)
        assert await look(1, months) == came_back
