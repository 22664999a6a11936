"""The reaper (docs/sessions.md, rule 11): what it takes, in which order, and what crashes, outages and races leave."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.storage import __main__ as main
from services.storage.removal.reaper import Reaper
from services.storage.sessions.tests.test_session_order import holding, reason, waits
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.store import copies, reaping
from services.storage.tests.cluster import Client, Cluster, a_body, pack
from services.storage.upkeep.replication import Replicator
from services.storage.volumes.disk import Disk
from services.storage.volumes.staging import NO_SESSION, StagedName
from services.storage.volumes.threads import DiskThreads, Result

KEPT = timedelta(days=30)


class Crash(Exception):
    """The node died here."""


@dataclass
class Steps:
    """Counts what a reaper does, and dies before or after one of its steps."""

    fatal: int | None = None
    done: int = 0

    def before(self) -> None:
        if self.fatal is not None and self.done == self.fatal:
            raise Crash

    def after(self) -> None:
        self.done += 1


class FragileDatabase:
    """Transactions of a worker, each of them a step; one that dies is rolled back."""

    def __init__(self, db: Database, steps: Steps) -> None:
        self._db = db
        self._steps = steps

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Unit]:
        async with self._db.worker() as unit:
            yield unit
            self._steps.before()
        self._steps.after()


class FragileThreads:
    """Work on the disks, each of it a step; one that dies has been done, and nobody hears of it."""

    def __init__(self, threads: DiskThreads, steps: Steps) -> None:
        self._threads = threads
        self._steps = steps

    def of(self, _bucket: UUID) -> "FragileThreads":
        return self

    async def run(self, step: Callable[[], Result]) -> Result:
        answer = await self._threads.run(step)
        self._steps.before()
        self._steps.after()
        return answer


@dataclass
class Reapers:
    """Makes reapers on the disks of nodes that run in this process; their own do not run."""

    parts: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def of(self, node: str, *, basket: timedelta = timedelta(), steps: Steps | None = None, **others: Any) -> Reaper:
        name, db, disks, threads, incoming = self.parts[node]
        if steps is not None:
            db, threads = FragileDatabase(db, steps), FragileThreads(threads, steps)
        return Reaper(name, db, disks, threads, incoming, **{"basket": basket, "sessions_kept": KEPT, **others})

    async def reap(self, *nodes: str) -> None:
        for node in nodes:
            await self.of(node).reap()


@pytest.fixture
def reapers(monkeypatch: pytest.MonkeyPatch) -> Reapers:
    made = Reapers()

    async def sleeps() -> None:
        """A node's own would be done with its first round sooner or later."""

    def make(node: str, *parts: Any, **settings: Any) -> Reaper:
        made.parts[node] = (node, *parts)
        own = Reaper(node, *parts, **settings)
        monkeypatch.setattr(own, "reap", sleeps)
        return own

    monkeypatch.setattr(main, "Reaper", make)
    return made


async def a_bucket(cluster: Cluster, node: str = "a", *, copies: int = 1, quota_bytes: int = 0) -> VaultClaims:
    made = await cluster.bucket(node, copies=copies, quota_bytes=quota_bytes)
    return replace(made, scopes=frozenset(Scope))


async def an_unneeded_backup(client: Client) -> tuple[ObjectName, ObjectName, ObjectName]:
    """Pack, index file and snapshot, all condemned by a retention that is over."""
    made, listed, committed = await a_committed_snapshot(client)
    retention = await client.open(Purpose.RETENTION)
    await client.remove(retention, committed)
    await client.mark(retention)
    assert await client.condemn(retention, listed) == {}
    assert await client.condemn(retention, made) == {}
    await client.end(retention)
    return made, listed, committed


def there(cluster: Cluster, node: str, claims: VaultClaims, *names: ObjectName) -> list[bool]:
    return [(cluster.bucket_folder(node, claims.bucket) / name.path).exists() for name in names]


def rows(cluster: Cluster, *names: ObjectName) -> dict[str, str]:
    found = cluster.sql(
        "select kind, sha256, state from objects where sha256 = any(%s)", [bytes.fromhex(name.id) for name in names]
    )
    return {f"{kind}/{digest.hex()}": state for kind, digest, state in found}


def counters_are_right(cluster: Cluster) -> bool:
    return not cluster.sql(
        "select 1 from buckets b where (b.objects, b.bytes, b.live_snapshots, b.live_bytes) <>"
        " (select count(*), coalesce(sum(size), 0)::bigint,"
        "  count(*) filter (where state = 'live' and kind = 'snapshots'),"
        "  coalesce(sum(size) filter (where state = 'live' and kind = 'data'), 0)::bigint"
        "  from objects o where o.bucket_id = b.id)"
    )


async def test_what_nobody_sees_any_more_is_removed_from_every_home_and_the_vault_goes_on(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            unneeded = await an_unneeded_backup(client)
            kept = await a_committed_snapshot(client)
            await reapers.reap("a")
            assert set(rows(cluster, *unneeded).values()) == {"deleting"}
            assert there(cluster, "a", claims, *unneeded) == [False] * 3
            assert there(cluster, "b", claims, *unneeded) == [True] * 3
            await reapers.reap("b")
            assert rows(cluster, *unneeded) == {}
            assert there(cluster, "b", claims, *unneeded) == [False] * 3
            assert set(rows(cluster, *kept).values()) == {"live"}
            assert counters_are_right(cluster)
            assert cluster.sql("select * from removals") == []
            session = await client.open()
            for name in kept:
                assert await client.get(session, name)
            assert cluster.files("a") == cluster.files("b")
            # The names are free again.
            body = a_body()
            await client.put(session, pack(body), body)


async def test_a_session_keeps_what_was_condemned_after_its_opening(cluster: Cluster, reapers: Reapers) -> None:
    """Case 11: a restore goes on reading; of several the oldest holds the horizon."""
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            first = await an_unneeded_backup(client)
            restore = await client.open(Purpose.READ)
            second = await an_unneeded_backup(client)
            await client.open(Purpose.READ)
            await reapers.reap("a")
            assert rows(cluster, *first) == {}
            assert set(rows(cluster, *second).values()) == {"condemned"}
            for name in second:
                assert await client.get(restore, name)
            await client.end(restore)
            await reapers.reap("a")
            assert rows(cluster, *second) == {}
            assert there(cluster, "a", claims, *first, *second) == [False] * 6


@pytest.mark.case(number=11)
async def test_a_restore_that_was_opened_between_the_condemnations_of_index_and_pack_finds_both_or_none(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            await client.remove(retention, committed)
            await client.mark(retention)
            await client.condemn(retention, listed)
            restore = await client.open(Purpose.READ)
            await client.condemn(retention, made)
            await client.end(retention)
            await reapers.reap("a")
            assert rows(cluster, made, listed, committed) == {str(made): "condemned"}
            assert await client.names(restore, ObjectKind.INDEX) == set()
            assert await client.get(restore, made)


async def test_the_waste_basket_keeps_everything_for_its_time_and_never_out_of_order(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = unneeded = await an_unneeded_backup(client)
            week = reapers.of("a", basket=timedelta(days=7))
            await week.reap()
            assert set(rows(cluster, *unneeded).values()) == {"condemned"}
            # A clock that jumped: the pack seems to have been there for long, its index file not.
            age = "update objects set condemned = now() - interval '8 days' where sha256 = %s"
            await cluster.change(age, bytes.fromhex(made.id))
            await cluster.change(age, bytes.fromhex(committed.id))
            await week.reap()
            assert rows(cluster, *unneeded) == {str(made): "condemned", str(listed): "condemned"}
            await cluster.change(age, bytes.fromhex(listed.id))
            await week.reap()
            assert rows(cluster, *unneeded) == {}
            assert counters_are_right(cluster)


@pytest.mark.case(number=14)
async def test_a_crash_at_any_step_leaves_a_whole_vault_and_is_gone_on_with(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            kept = await a_committed_snapshot(client)
            fatal, crashed = 0, True
            while crashed:
                unneeded = made, *_ = await an_unneeded_backup(client)
                try:
                    await reapers.of("a", steps=Steps(fatal)).reap()
                    crashed = False
                except Crash:
                    fatal += 1
                pack_there, index_there, snapshot_there = there(cluster, "a", claims, *unneeded)
                assert pack_there >= index_there >= snapshot_there
                assert counters_are_right(cluster)
                left = rows(cluster, *unneeded)
                files = dict(zip(unneeded, there(cluster, "a", claims, *unneeded), strict=True))
                assert {str(name) for name in unneeded if files[name]} <= set(left)
                session = await client.open()
                is_gone = left.get(str(made)) != "condemned"
                assert await client.reserve(session, made) == [str(made)] * is_gone
                await client.end(session)
            assert fatal > 10
            await reapers.reap("a")
            assert counters_are_right(cluster)
            assert cluster.sql("select distinct state from objects") == [("live",)]
            [(count,)] = cluster.sql("select count(*) from objects")
            assert len(cluster.files("a")) == count
            session = await client.open()
            for name in kept:
                assert await client.get(session, name)


async def test_several_nodes_reap_at_once(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a", "b"):
        claims = await a_bucket(cluster, copies=2)
        async with cluster.client("a", claims) as client:
            unneeded = [name for _ in range(3) for name in await an_unneeded_backup(client)]
            for _ in range(3):
                await asyncio.gather(*(reapers.of(node).reap() for node in ("a", "b", "a", "b")))
            assert rows(cluster, *unneeded) == {}
            for node in ("a", "b"):
                assert there(cluster, node, claims, *unneeded) == [False] * len(unneeded)
            assert counters_are_right(cluster)
            assert len(cluster.files("a")) == 3


async def test_a_home_that_is_down_removes_its_copies_when_it_is_back(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await a_bucket(cluster, copies=2)
            async with cluster.client("a", claims) as client:
                unneeded = made, *_ = await an_unneeded_backup(client)
        async with cluster.client("a", claims) as client:
            await reapers.reap("a", "a")
            assert there(cluster, "a", claims, *unneeded) == [False] * 3
            assert there(cluster, "b", claims, *unneeded) == [True] * 3
            assert set(rows(cluster, *unneeded).values()) == {"deleting"}
            session = await client.open()
            assert await client.reserve(session, made) == [str(made)]
            assert await refusal_of(client.put(session, made, b"")) == "BEING_REMOVED"
        # It settles, reconciles and heals as it starts, and none of that brings anything back.
        async with cluster.up("b"):
            await reapers.reap("b")
            assert rows(cluster, *unneeded) == {}
            assert there(cluster, "b", claims, *unneeded) == [False] * 3
            assert cluster.files("a") == cluster.files("b")
            assert counters_are_right(cluster)


async def test_a_disk_that_is_away_keeps_its_rows(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            unneeded = await an_unneeded_backup(client)
        disk = cluster.settings["a"].data_dirs[0]
        mounted = disk.with_name("elsewhere")
        disk.rename(mounted)
        disk.mkdir()
        await reapers.reap("a")
        assert set(rows(cluster, *unneeded).values()) == {"deleting"}
        disk.rmdir()
        mounted.rename(disk)
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {}
        assert there(cluster, "a", claims, *unneeded) == [False] * 3


async def test_a_disk_that_cannot_sync_or_is_away_holds_up_its_own_buckets_alone(
    cluster: Cluster, reapers: Reapers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.node("a", data_dirs=[cluster.folder / "first", cluster.folder / "second"])
    first, second = cluster.settings["a"].data_dirs
    free = dict.fromkeys((first, second), 0)  # GiB: a bucket goes to the roomier one
    monkeypatch.setattr(Disk, "free_bytes", property(lambda disk: free[disk.folder] << 30))
    async with cluster.up("a"):
        unneeded = {}
        buckets = sorted([await a_bucket(cluster), await a_bucket(cluster)], key=lambda claims: claims.bucket)
        for disk, claims in zip((first, second), buckets, strict=True):
            free[disk] = max(free.values()) + 1
            async with cluster.client("a", claims) as client:
                unneeded[disk] = await an_unneeded_backup(client)
            assert (disk / "buckets" / str(claims.bucket)).is_dir()
        bad, fsync = first, os.fsync

        def sync(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").resolve().is_relative_to(bad.resolve() / "buckets"):
                raise OSError(errno.EIO, "a bad disk")
            fsync(handle)

        # The bucket whose turn comes first lies on the bad disk.
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            await reapers.reap("a")
        assert set(rows(cluster, *unneeded[first]).values()) == {"deleting"}
        assert rows(cluster, *unneeded[second]) == {}
        async with cluster.client("a", buckets[1]) as client:
            unneeded[second] = await an_unneeded_backup(client)
        mounted = first.with_name("elsewhere")
        first.rename(mounted)
        first.mkdir()
        await reapers.reap("a")
        assert set(rows(cluster, *unneeded[first]).values()) == {"deleting"}
        assert rows(cluster, *unneeded[second]) == {}
        first.rmdir()
        mounted.rename(first)
        await reapers.reap("a")
        assert rows(cluster, *unneeded[first]) == {}


async def test_what_cannot_be_unlinked_keeps_its_row_and_what_it_names(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, committed = unneeded = await an_unneeded_backup(client)
        place = cluster.bucket_folder("a", claims.bucket) / listed.path
        body = place.read_bytes()
        place.unlink()
        place.mkdir()  # no file: unlinking it fails, for root as well
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {str(made): "deleting", str(listed): "deleting"}
        assert there(cluster, "a", claims, made, committed) == [True, False]
        place.rmdir()
        place.write_bytes(body)
        await reapers.reap("a")
        assert rows(cluster, *unneeded) == {}
        assert there(cluster, "a", claims, *unneeded) == [False] * 3


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


def uses(cluster: Cluster, session: UUID) -> int:
    [(count,)] = cluster.sql("select count(*) from object_users where session_id = %s", session)
    return int(count)


async def test_who_used_what_is_kept_while_an_open_mark_may_ask_for_it(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            before, during = await client.open(), await client.open()
            for session in (before, during):
                await client.reserve(session, made)
            await client.end(before)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            await client.end(during)
            await reapers.reap("a")
            assert (uses(cluster, before), uses(cluster, during)) == (0, 1)
            assert set(await client.condemn(retention, made)) == {str(made)}
            await client.end(retention)
            await reapers.reap("a")
            assert uses(cluster, during) == 0


async def test_two_nodes_that_sweep_one_session_leave_no_use_of_it_behind(cluster: Cluster, reapers: Reapers) -> None:
    """A session that is called swept and has a use would never be forgotten, and end the node that tries."""
    async with cluster.up("a") as [db]:
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            for _ in range(3):
                await client.put_pack(session, a_body())
            await client.end(session)
            await cluster.change("update sessions set ended = now() - interval '31 days' where id = %s", session)
            everything = uses(cluster, session)
            async with asyncio.timeout(60), db.worker() as first:
                assert await reaping.sweep(first, [session], 2)
                async with db.worker() as second:
                    assert await reaping.sweep(second, [session], 2)
            assert uses(cluster, session) == everything - 4
            assert cluster.sql("select swept from sessions where id = %s", session) == [(False,)]
            await reapers.reap("a")
            assert uses(cluster, session) == 0
            assert cluster.sql("select 1 from sessions where id = %s", session) == []


async def test_sessions_that_are_over_for_long_are_forgotten_and_still_over(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            old, young, still_open = await client.open(), await client.open(), await client.open()
            await client.end(old)
            await client.end(young)
            await cluster.change("update sessions set ended = now() - interval '31 days' where id = %s", old)
            await cluster.change("update sessions set opened = now() - interval '60 days' where id = %s", still_open)
            await reapers.reap("a")
            left = {row[0] for row in cluster.sql("select id from sessions")}
            assert {young, still_open} <= left
            assert old not in left
            assert await refusal_of(client.get(old, made)) == "SESSION_OVER"
            assert await refusal_of(client.list(old, ObjectKind.PACK)) == "SESSION_OVER"
            assert await refusal_of(client.put_pack(old, a_body())) == "SESSION_OVER"
            assert await refusal_of(client.beat(old)) == "SESSION_OVER"


async def test_while_the_brake_holds_nothing_that_was_removed_before_goes_for_good(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            removed = await an_unneeded_backup(client)
        await cluster.change("update buckets set braked = now()")
        await reapers.reap("a")
        assert set(rows(cluster, *removed).values()) == {"condemned"}
        await cluster.change("update buckets set braked = null")
        await reapers.reap("a")
        assert rows(cluster, *removed) == {}
