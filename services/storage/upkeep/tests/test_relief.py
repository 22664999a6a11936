"""Which bucket leaves a crowded disk, and what does not hold up the others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.storage.tests.cluster import Cluster
from services.storage.tests.sized import BODY, CROWDED, KIB, Sizes, a_node, files_of, lies_on, once, put_packs
from services.storage.upkeep import clearing, moves
from services.storage.upkeep.moves import Mover
from services.storage.upkeep.tests.moving import NEVER, QUICK, a_bucket_on, until_none
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


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> list[BucketsInUse]:
    """Those of the nodes that start. Who comes again for a bucket has little patience."""
    made: list[BucketsInUse] = []
    begin = BucketsInUse.__init__

    def note(self: BucketsInUse, *given: Any) -> None:
        begin(self, *given)
        made.append(self)

    monkeypatch.setattr(BucketsInUse, "__init__", note)
    monkeypatch.setattr(moves, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(clearing, "PATIENCE_SECONDS", 0.05)
    return made


@asynccontextmanager
async def read_for_long(in_use: list[BucketsInUse], bucket: UUID) -> AsyncIterator[None]:
    """While somebody is at a bucket's files on each of the nodes."""
    async with AsyncExitStack() as reading:
        for one in in_use:
            await reading.enter_async_context(one.shared(bucket))
        yield


@pytest.mark.parametrize("spreads", [False, True])
async def test_a_bucket_whose_files_somebody_reads_for_long_holds_up_no_other(
    cluster: Cluster, sizes: Sizes, in_use: list[BucketsInUse], spreads: bool
) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0)
    async with cluster.up("a"):
        read, other = await cluster.bucket("a"), await cluster.bucket("a")
        await put_on(cluster, read, 20 if spreads else 10)  # the first to be spread, or to move
        await put_on(cluster, other, 15)
        async with read_for_long(in_use, read.bucket):
            lies = files_of(read, first)
            # The other disk has room for part of one bucket, or for both.
            sizes.update({second: (390 if spreads else 8000) * KIB, first: sizes[first] - sizes.free(first) + 50 * KIB})
            await once(lambda: sizes.free(first) >= 2 * CROWDED)
            assert files_of(read, first) == lies


@pytest.mark.parametrize("spreads", [False, True])
async def test_no_disk_is_said_to_have_no_room_while_what_would_leave_it_is_read(
    cluster: Cluster, sizes: Sizes, in_use: list[BucketsInUse], monkeypatch: pytest.MonkeyPatch, spreads: bool
) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0)
    rounds: list[bool] = []
    relieve = Mover.relieve

    async def counted(mover: Mover) -> None:
        is_crowded = sizes.free(first) < CROWDED
        await relieve(mover)
        rounds.append(is_crowded)

    monkeypatch.setattr(Mover, "relieve", counted)
    async with cluster.up("a"):
        read = await cluster.bucket("a")
        await put_on(cluster, read, 20)
        with capture_logs() as told:
            async with read_for_long(in_use, read.bucket):
                used = sizes[first] - sizes.free(first)
                sizes.update({second: (390 if spreads else 8000) * KIB, first: used + 50 * KIB})
                await once(lambda: rounds.count(True) >= 3)
            await once(lambda: sizes.free(first) >= 2 * CROWDED)
        said = [line["event"] for line in told if line["log_level"] in ("warning", "error")]
        assert said == ["a bucket is in use for long, and what waits for it goes on when it is not"]


async def test_a_bucket_whose_files_somebody_reads_for_long_holds_up_the_clearing_of_no_other(
    cluster: Cluster, in_use: list[BucketsInUse]
) -> None:
    for name in ("a", "b"):
        cluster.node(name, placement_poll_seconds=QUICK)
    async with cluster.up("a", "b"):
        read, _ = sorted([(await a_bucket_on(cluster, "a")).bucket for _ in range(2)])  # the clearer's order
        async with read_for_long(in_use, read):
            await cluster.change(
                "insert into clearings (bucket_id, node_id, tenant_id, user_id, id)"
                " select bucket_id, 'b', tenant_id, user_id, gen_random_uuid() from homes"
            )
            await once(lambda: cluster.sql("select bucket_id from clearings") == [(read,)])
        await until_none(cluster, "select 1 from clearings")


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
