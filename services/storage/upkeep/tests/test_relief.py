"""Which bucket leaves a crowded disk, and what does not hold up the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.storage.tests.cluster import Cluster
from services.storage.tests.sized import BODY, CROWDED, KIB, Sizes, a_node, files_of, lies_on, once, put_packs
from services.storage.upkeep import moves
from services.storage.upkeep.tests.moving import NEVER
from services.storage.volumes.in_use import BucketsInUse


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Sizes:
    sizes = Sizes()
    sizes.hold(monkeypatch)
    return sizes


async def put_on(cluster: Cluster, claims: VaultClaims, count: int) -> dict[ObjectName, bytes]:
    """So many packs."""
    async with cluster.client("a", claims) as client:
        return await put_packs(client, await client.open(), count)


async def test_a_damaged_file_that_cannot_be_healed_holds_up_no_other_bucket(cluster: Cluster, sizes: Sizes) -> None:
    first, second = a_node(cluster, sizes, "a", 800, 0, scrub_poll_seconds=NEVER)
    async with cluster.up("a"):
        damaged, other = await cluster.bucket("a"), await cluster.bucket("a")
        await put_on(cluster, other, 5)
        bodies = await put_on(cluster, damaged, 20)
        bad = next(iter(bodies))
        (first / "buckets" / str(damaged.bucket) / bad.path).write_bytes(bytes(BODY))
        sizes.update({first: 580 * KIB, second: 8000 * KIB})
        await once(lambda: files_of(damaged, first) == {bad.id})
        # It still has more bytes than are needed, by the catalogue, and the other disk has room for them.
        sizes[first] = 180 * KIB
        await once(lambda: sizes.free(first) >= CROWDED)
        assert files_of(damaged, first) == {bad.id}


async def test_a_foreign_file_in_its_folder_holds_up_no_other_bucket(cluster: Cluster, sizes: Sizes) -> None:
    first, second = a_node(cluster, sizes, "a", 800, 0)
    async with cluster.up("a"):
        foreign, other = await cluster.bucket("a"), await cluster.bucket("a")
        await put_on(cluster, other, 5)
        await put_on(cluster, foreign, 20)
        (first / "buckets" / str(foreign.bucket) / "notes").write_bytes(bytes(BODY))
        sizes.update({first: 600 * KIB, second: 8000 * KIB})
        await once(lambda: files_of(foreign, first) == {"notes"})
        sizes[first] = 200 * KIB
        await once(lambda: sizes.free(first) >= CROWDED)
        assert files_of(foreign, first) == {"notes"}


@pytest.mark.parametrize("spreads", [False, True])
async def test_a_bucket_whose_files_somebody_reads_for_long_holds_up_no_other(
    cluster: Cluster, sizes: Sizes, monkeypatch: pytest.MonkeyPatch, spreads: bool
) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0)
    async with cluster.up("a"):
        read, other = await cluster.bucket("a"), await cluster.bucket("a")
        await put_on(cluster, read, 20 if spreads else 10)  # the first to be spread, or to move
        await put_on(cluster, other, 15)
        alone = BucketsInUse.alone

        @asynccontextmanager
        async def is_read(in_use: BucketsInUse, bucket: UUID) -> AsyncIterator[None]:
            if bucket == read.bucket:
                await asyncio.Event().wait()
            async with alone(in_use, bucket):
                yield

        monkeypatch.setattr(BucketsInUse, "alone", is_read)
        monkeypatch.setattr(moves, "_PATIENCE_SECONDS", 0.05)
        lies = files_of(read, first)
        # The other disk has room for part of one bucket, or for both.
        sizes.update({second: (390 if spreads else 8000) * KIB, first: sizes[first] - sizes.free(first) + 50 * KIB})
        await once(lambda: sizes.free(first) >= 2 * CROWDED)
        assert files_of(read, first) == lies


async def test_the_smallest_bucket_that_is_enough_leaves(cluster: Cluster, sizes: Sizes) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0)
    async with cluster.up("a"):
        tiny, small, large = [await cluster.bucket("a") for _ in range(3)]
        for claims, count in ((tiny, 1), (small, 10), (large, 20)):
            await put_on(cluster, claims, count)
        sizes[second] = 8000 * KIB
        assert [lies_on(claims, first, second) for claims in (tiny, small, large)] == [[first]] * 3
        sizes[first] = (31 * BODY + 50 * KIB) // KIB * KIB
        await once(lambda: lies_on(small, first, second) == [second])
        assert (lies_on(tiny, first, second), lies_on(large, first, second)) == ([first], [first])
