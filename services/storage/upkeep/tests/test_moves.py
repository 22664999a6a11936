"""Buckets that outgrow a disk move to others of the node, or are spread over them, while they are in use."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.names import ObjectKind, ObjectName
from services.common.database import Database
from services.common.errors import StartError
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, a_body
from services.storage.tests.sized import (
    BODY,
    CROWDED,
    KIB,
    Sizes,
    a_node,
    all_are_read,
    files_of,
    lies_on,
    once,
    put_packs,
)
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.placement import OUTGROWN_ROUNDS
from services.storage.upkeep.tests.moving import NEVER, QUICK, a_bucket_on, homes_of, placement, until, until_none
from services.storage.volumes.leaving import Leaving


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Sizes:
    sizes = Sizes()
    sizes.hold(monkeypatch)
    return sizes


async def test_a_bucket_that_outgrows_its_disk_moves_to_a_larger_one_while_it_is_in_use(
    cluster: Cluster, sizes: Sizes
) -> None:
    small, large = a_node(cluster, sizes, "a", 400, 0)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            parent = (await a_committed_snapshot(client))[-1]
            session = await client.open(parent=parent)
            bodies = await put_packs(client, session, 4)
            assert lies_on(claims, small, large) == [small]
            sizes[large] = 4000 * KIB

            async def has_moved() -> bool:
                nonlocal bodies
                if len(bodies) < 40:  # 800 KiB
                    bodies |= await put_packs(client, session, 1)
                await all_are_read(client, session, bodies)
                return len(bodies) >= 12 and lies_on(claims, small, large) == [large]

            await until(has_moved)
            await client.put_index(session, list(bodies))
            await client.commit(session, b"a snapshot that began before")
            await all_are_read(client, session, bodies)
        assert cluster.sql("select 1 from missing_copies") == []
        assert Leaving(small).all() == []
    async with cluster.up("a"):
        async with cluster.client("a", claims) as client:
            await all_are_read(client, session, bodies)
        await copies_are_complete(cluster, "a")


async def test_a_bucket_that_no_other_disk_can_hold_is_spread_and_found_again_by_a_restart(
    cluster: Cluster, sizes: Sizes
) -> None:
    disks = a_node(cluster, sizes, "a", 1000, 0, 0)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            bodies = await put_packs(client, session, 45)
            sizes.update({disks[1]: 700 * KIB, disks[2]: 600 * KIB})
            await once(lambda: sizes.free(disks[0]) >= 2 * CROWDED)
            assert len(lies_on(claims, *disks)) > 1
            assert not any(Leaving(disk).all() for disk in disks)
            await all_are_read(client, session, bodies)
            bodies |= await put_packs(client, session, 3)
    async with cluster.up("a"):
        await copies_are_complete(cluster, "a")
        async with cluster.client("a", claims) as client:
            await all_are_read(client, session, bodies)
            assert await client.names(session, ObjectKind.PACK) == {str(name) for name in bodies}
        packs = {name.id for name in bodies}
        assert sorted(name for disk in disks for name in files_of(claims, disk) & packs) == sorted(packs)


async def test_a_put_that_its_disk_has_no_room_for_is_taken_on_another_and_refused_when_there_is_none(
    cluster: Cluster, sizes: Sizes
) -> None:
    first, second = a_node(cluster, sizes, "a", 200, 0, move_poll_seconds=3600)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            bodies = await put_packs(client, session, 9)
            assert await refusal_of(client.put_pack(session, a_body(BODY))) == "DISK_FULL"
            sizes[second] = 100 * KIB
            bodies |= await put_packs(client, session, 4)
            assert lies_on(claims, first, second) == [first, second]
            await all_are_read(client, session, bodies)


async def test_a_bucket_that_had_begun_to_leave_when_the_node_was_killed_goes_on(
    cluster: Cluster, sizes: Sizes
) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            bodies = await put_packs(client, session, 4)
    # As a node leaves it that dies after the second pack has its new place, and before the old one is unlinked.
    sizes[second] = 2000 * KIB
    Leaving(first).note(claims.bucket)
    for name in list(bodies)[:2]:
        old, new = ((folder / "buckets" / str(claims.bucket) / name.path) for folder in (first, second))
        new.parent.mkdir(parents=True)
        shutil.copy(old, new)
    async with cluster.up("a"):
        await once(lambda: lies_on(claims, first, second) == [second])
        async with cluster.client("a", claims) as client:
            await all_are_read(client, session, bodies)
        await until_none(cluster, "select 1 from missing_copies")
    assert Leaving(first).all() == []


async def test_a_disk_without_a_byte_left_for_a_note_is_left_all_the_same(
    cluster: Cluster, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = a_node(cluster, sizes, "a", 230, 0)

    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Leaving, "note", is_full)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            bodies = await put_packs(client, session, 8)
            sizes[second] = 4000 * KIB
            await once(lambda: lies_on(claims, first, second) == [second])
            await all_are_read(client, session, bodies)


async def test_a_disk_from_which_nothing_can_be_removed_holds_up_no_other(
    cluster: Cluster, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = first, second, third = a_node(cluster, sizes, "a", 230, 0, 0)
    unlink = Path.unlink

    def is_read_only(path: Path, *given: Any, **named: Any) -> None:
        if path.is_relative_to(first / "buckets"):
            raise OSError(errno.EROFS, "read-only")
        unlink(path, *given, **named)

    async with cluster.up("a"):
        stays, moves = await cluster.bucket("a"), await cluster.bucket("a")
        async with cluster.client("a", stays) as client, cluster.client("a", moves) as other:
            session, its = await client.open(), await other.open()
            bodies = await put_packs(client, session, 8)
            sizes[second] = 190 * KIB  # roomier, and not enough to take something in
            others = await put_packs(other, its, 8)
            assert (lies_on(stays, *disks), lies_on(moves, *disks)) == ([first], [second])
            monkeypatch.setattr(Path, "unlink", is_read_only)
            sizes.update({second: 230 * KIB, third: 4000 * KIB})
            await once(lambda: lies_on(moves, *disks) == [third])
            assert first in lies_on(stays, *disks)
            await all_are_read(client, session, bodies)
            await all_are_read(other, its, others)


async def test_a_damaged_pack_is_healed_and_leaves_too(cluster: Cluster, sizes: Sizes) -> None:
    first, second = a_node(cluster, sizes, "a", 2000, 0, scrub_poll_seconds=3600)
    a_node(cluster, sizes, "b", 1 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            bodies = await put_packs(client, session, 10)
            damaged = next(iter(bodies))
            place = first / "buckets" / str(claims.bucket) / damaged.path
            place.write_bytes(bytes(BODY))
            sizes[second] = 4000 * KIB
            sizes[first] = 220 * KIB
            await once(lambda: lies_on(claims, first, second) == [second])
            await all_are_read(client, session, bodies)
        await until_none(cluster, "select 1 from missing_copies")
        assert (second / "buckets" / str(claims.bucket) / damaged.path).read_bytes() == bodies[damaged]


async def test_what_lay_on_a_disk_that_is_lost_is_made_again_from_the_other_node(
    cluster: Cluster, sizes: Sizes
) -> None:
    first, second = a_node(cluster, sizes, "a", 300, 0, move_poll_seconds=3600)
    a_node(cluster, sizes, "b", 1 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            bodies = await put_packs(client, session, 10)
            sizes[second] = 400 * KIB
            bodies |= await put_packs(client, session, 10)
    assert lies_on(claims, first, second) == [first, second]
    mounted = second.with_name("elsewhere")
    second.rename(mounted)
    second.mkdir()
    with pytest.raises(StartError, match="is not there: mount it"):
        async with cluster.up("a"):
            pass
    assert list(second.iterdir()) == []
    third = first.with_name("a-2")
    sizes[third] = 1000 * KIB
    del cluster.settings["a"]
    cluster.node("a", data_dirs=[first, third], crowded_bytes=CROWDED, move_poll_seconds=NEVER)
    async with cluster.up("a", "b"):
        async with cluster.client("a", claims) as client:
            await all_are_read(client, session, bodies)
        await copies_are_complete(cluster, "a")
    assert {name.id for name in bodies} <= files_of(claims, first) | files_of(claims, third)


async def test_a_removal_takes_what_lies_on_each_of_the_disks(cluster: Cluster, sizes: Sizes) -> None:
    first, second = a_node(cluster, sizes, "a", 200, 0, move_poll_seconds=3600, reap_seconds=QUICK, basket_days=0)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await put_packs(client, session, 9)
            sizes[second] = 100 * KIB
            await put_packs(client, session, 4)
            await client.end(session)
        await cluster.change("update objects set state = 'condemned', condemned_seq = created_seq, condemned = now()")
        await until_none(cluster, "select 1 from objects")
    assert files_of(claims, first) | files_of(claims, second) == set()


async def test_a_bucket_that_outgrows_all_disks_of_its_node_moves_to_another_node(
    cluster: Cluster, sizes: Sizes
) -> None:
    first, second = a_node(cluster, sizes, "a", 300, 300)
    (other,) = a_node(cluster, sizes, "b", 1 << 20)
    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            bodies: dict[ObjectName, bytes] = {}

            async def has_moved() -> bool:
                nonlocal bodies
                if len(bodies) < 20:
                    bodies |= await put_packs(client, session, 1)
                await all_are_read(client, session, bodies)
                return homes_of(cluster, claims) == {"b"} and not lies_on(claims, first, second)

            await until(has_moved)
            await all_are_read(client, session, bodies)
        assert {name.id for name in bodies} <= files_of(claims, other)
        await copies_are_complete(cluster, "b")


async def test_a_bucket_does_not_move_to_a_node_from_which_it_would_come_back(cluster: Cluster, sizes: Sizes) -> None:
    a_node(cluster, sizes, "a", 500, placement_poll_seconds=NEVER)
    (other,) = a_node(cluster, sizes, "b", 700, placement_poll_seconds=NEVER)
    async with cluster.up("a", "b") as [db, _]:
        claims = await a_bucket_on(cluster, "a")
        await copies_are_complete(cluster, "a")
        async with cluster.client("a", claims) as client:
            await put_packs(client, await client.open(), 20)
        # The bucket has 400 KiB, and its node 100 KiB left.
        for size, homes in ((480, {"a"}), (540, {"a", "b"})):
            sizes[other] = size * KIB
            await reported(cluster, "b", sizes.free(other))
            await place(db, OUTGROWN_ROUNDS)
            assert homes_of(cluster, claims) == homes


async def test_a_bucket_stays_on_a_node_whose_disk_is_away_and_is_waited_for(cluster: Cluster, sizes: Sizes) -> None:
    (here,) = a_node(cluster, sizes, "a", 1 << 20, placement_poll_seconds=NEVER, replication_poll_seconds=NEVER)
    a_node(cluster, sizes, "b", 1 << 20, placement_poll_seconds=NEVER)
    async with cluster.up("a", "b") as [db, _]:
        claims = await a_bucket_on(cluster, "a")
        await copies_are_complete(cluster, "a")
        async with cluster.client("a", claims) as client:
            await put_packs(client, await client.open(), 2)
        here.rename(here.with_name("away"))
        await reported(cluster, "a", 0)
        await place(db, 2 * OUTGROWN_ROUNDS)
        assert homes_of(cluster, claims) == {"a"}, "it has not outgrown the disk"
        await cluster.change(
            "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
            " select id, 'a', bucket_id, tenant_id, user_id from objects"
        )
        await cluster.change("update homes set waits = 'its turn has not come yet'")  # so it is looked at
        await place(db, 2)
        assert homes_of(cluster, claims) == {"a"}, "what it lacks has room on it when it is back"


async def test_a_bucket_stays_where_files_wait_to_be_adopted(cluster: Cluster, sizes: Sizes) -> None:
    (here,) = a_node(cluster, sizes, "a", 500)
    a_node(cluster, sizes, "b", 1 << 20)
    async with cluster.up("a", "b"):
        waiting = await a_bucket_on(cluster, "a")
        place = here / "buckets" / str(waiting.bucket) / "data" / "ab"
        place.mkdir(parents=True, exist_ok=True)
        (place / ("ab" * 32)).touch()
        async with cluster.client("a", waiting) as client:
            session = await client.open()
            await put_packs(client, session, 20)
        with capture_logs() as told:
            await once(lambda: any("are to be adopted" in one["event"] for one in told))
        assert homes_of(cluster, waiting) == {"a"}
        (place / ("ab" * 32)).unlink()

        async def has_gone() -> bool:
            return homes_of(cluster, waiting) == {"b"}

        await until(has_gone)


async def test_a_smaller_bucket_stays_where_the_largest_one_is_to_go(cluster: Cluster, sizes: Sizes) -> None:
    a_node(cluster, sizes, "a", 500, placement_poll_seconds=NEVER)
    a_node(cluster, sizes, "b", 1 << 20, placement_poll_seconds=NEVER)
    async with cluster.up("a", "b") as [db, _]:
        small, large = await a_bucket_on(cluster, "a"), await a_bucket_on(cluster, "a")
        await copies_are_complete(cluster, "a")
        for claims, count in ((small, 2), (large, 4)):
            async with cluster.client("a", claims) as client:
                await put_packs(client, await client.open(), count)
        await place(db, OUTGROWN_ROUNDS - 1)
        assert (homes_of(cluster, small), homes_of(cluster, large)) == ({"a"}, {"a"})
        await place(db, 2 * OUTGROWN_ROUNDS)
        assert (homes_of(cluster, small), homes_of(cluster, large)) == ({"a"}, {"a", "b"})


async def place(db: Database, rounds: int) -> None:
    here = placement(db, "a")
    for _ in range(rounds):
        await here.place()


async def reported(cluster: Cluster, node: str, free: int) -> None:
    """Wait until the catalogue knows how much room a node has."""
    await until_none(cluster, f"select 1 from nodes where id = '{node}' and free_bytes <> {free}")
