"""The reaper (docs/sessions.md, rule 11): what it takes, in which order, and what crashes leave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.storage import __main__ as main
from services.storage.removal.reaper import Reaper
from services.storage.sessions.tests.test_sessions import a_committed_snapshot
from services.storage.tests.cluster import Client, Cluster, a_body, pack
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
