"""The waste basket: what was removed is listed, read and brought back by an adoption (docs/sessions.md, rule 8)."""

import os
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, an_unneeded_backup, reapers, rows, there
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of, state
from services.storage.tests.cluster import Client, Cluster, a_body

__all__ = ["reapers"]
KINDS = (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK)


async def test_an_adoption_lists_and_reads_what_is_condemned_and_no_other_session_does(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            *_, committed = await a_committed_snapshot(client)
            made, listed, removed = await an_unneeded_backup(client)
            adoption = await client.open(Purpose.ADOPT)
            for kind, name in zip(KINDS, (removed, listed, made), strict=True):
                assert await client.basket(adoption, kind) == {str(name)}
                assert str(name) not in await client.names(adoption, kind)
                assert await client.get(adoption, name)
            assert await client.names(adoption, ObjectKind.SNAPSHOT) == {str(committed)}
            for purpose in (Purpose.READ, Purpose.BACKUP, Purpose.RETENTION):
                session = await client.open(purpose)
                assert await refusal_of(client.basket(session, ObjectKind.SNAPSHOT)) == "NOT_ALLOWED"
                assert await refusal_of(client.get(session, removed)) == "NOT_FOUND"


@pytest.mark.case(number=10)
async def test_a_removed_snapshot_comes_back_with_all_it_reaches(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, removed = unneeded = await an_unneeded_backup(client)
            adoption = await client.open(Purpose.ADOPT)
            body = await client.get(adoption, removed)
            index_body = await client.get(adoption, listed)
            # While it looks, nothing of what it sees goes.
            await reapers.reap("a")
            assert set(rows(cluster, *unneeded).values()) == {"condemned"}
            # Packs, then index files, then the snapshot: no other order is taken.
            assert await refusal_of(client.put_index(adoption, [made], index_body)) == "NOT_RESERVED"
            assert await client.reserve(adoption, made) == []
            assert await refusal_of(client.commit(adoption, body)) == "INDEX_NEEDED"
            await client.put_index(adoption, [made], index_body)
            assert await client.commit(adoption, body) == removed
            await client.end(adoption)
            await reapers.reap("a")
            assert set(rows(cluster, *unneeded).values()) == {"live"}
            reader = await client.open(Purpose.READ)
            assert await client.names(reader, ObjectKind.SNAPSHOT) == {str(removed)}
            for name in unneeded:
                assert await client.get(reader, name)


@dataclass
class Retention:
    """What an honest retention does that knows of no snapshot but those that it is told."""

    client: Client

    async def run(self, *packs: ObjectName) -> set[str]:
        """Condemn all index files, and packs if no index file stays. Answers the snapshots that it has listed."""
        client = self.client
        session = await client.open(Purpose.RETENTION)
        await client.mark(session)
        snapshots = await client.names(session, ObjectKind.SNAPSHOT)
        if not snapshots:
            indexes = [ObjectName.parse(name) for name in await client.names(session, ObjectKind.INDEX)]
            if not indexes or not await client.condemn(session, *indexes):
                await client.condemn(session, *packs)
        await client.end(session)
        return snapshots


@pytest.mark.case(number=10)
async def test_a_revival_that_is_interrupted_anywhere_loses_nothing_and_can_be_done_again(
    cluster: Cluster, reapers: Reapers
) -> None:
    """Case 10: a retention between packs, index and snapshot each time, and after an end at each step."""
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, removed = unneeded = await an_unneeded_backup(client)
            retention = Retention(client)
            week = reapers.of("a", basket=timedelta(days=7))
            reader = await client.open(Purpose.ADOPT)
            body, index_body = await client.get(reader, removed), await client.get(reader, listed)
            await client.end(reader)
            for steps in range(4):
                adoption = await client.open(Purpose.ADOPT)
                if steps > 0:
                    assert await client.reserve(adoption, made) == []
                    await retention.run(made)
                    assert state(cluster, made) == "live"
                if steps > 1:
                    await client.put_index(adoption, [made], index_body)
                    await retention.run(made)
                    assert [state(cluster, name) for name in (made, listed)] == ["live", "live"]
                if steps > 2:
                    await client.commit(adoption, body)
                await client.end(adoption)
                await week.reap()
                assert bool(await retention.run(made)) == (steps > 2)
                expected = "live" if steps > 2 else "condemned"
                assert {state(cluster, name) for name in unneeded} == {expected}


@pytest.mark.case(number=10)
async def test_what_has_gone_is_not_brought_back_by_half(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, removed = await an_unneeded_backup(client)
            adoption = await client.open(Purpose.ADOPT)
            assert await client.get(adoption, removed)
            await client.end(adoption)
            await reapers.reap("a")
            assert there(cluster, "a", claims, made, listed, removed) == [False] * 3
            adoption = await client.open(Purpose.ADOPT)
            assert await client.basket(adoption, ObjectKind.SNAPSHOT) == set()
            assert await client.reserve(adoption, made) == [str(made)]
            assert await refusal_of(client.put_index(adoption, [made], a_body())) == "NOT_RESERVED"


async def test_what_lies_in_the_basket_counts_against_the_quota_until_it_is_removed(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster, quota_bytes=3000)
        async with cluster.client("a", claims) as client:
            await an_unneeded_backup(client)
            session = await client.open()
            assert await refusal_of(client.put_pack(session, a_body(2500))) == "QUOTA_EXCEEDED"
            await client.end(session)
            await reapers.reap("a")
            await client.put_pack(await client.open(), a_body(2500))


async def test_a_vault_at_its_quota_can_be_pruned_which_stores_before_it_condemns(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster, quota_bytes=3000)
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
            # From now on the vault is full.
            await cluster.change("update buckets set quota_bytes = bytes where id = %s", claims.bucket)
            retention = await client.open(Purpose.RETENTION)
            await client.remove(retention, committed)
            repacked = await client.put_pack(retention, a_body(2500))
            await client.put_index(retention, [repacked], a_body())
            await client.mark(retention)
            assert await client.condemn(retention, listed) == {}
            assert await client.condemn(retention, made) == {}
            # Nobody else gets past it, also not while a retention is open.
            backup = await client.open()
            assert await refusal_of(client.put_pack(backup, a_body())) == "QUOTA_EXCEEDED"
            await client.end(backup)
            await client.end(retention)
            await reapers.reap("a")
            assert rows(cluster, made, listed, committed) == {}
            assert state(cluster, repacked) == "live"


async def test_full_disks_take_the_index_files_of_a_retention_and_nothing_else(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = replace(await cluster.bucket("a", copies=2, ack_copies=2), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
    disk = os.statvfs(cluster.folder)
    for name in ("a", "b"):  # from now on they are full, though not to the last byte
        del cluster.settings[name]
        cluster.node(name, low_water_bytes=disk.f_bavail * disk.f_frsize * 3 // 2)
    async with cluster.up("a", "b"), cluster.client("a", claims) as client:
        backup = await client.open()
        assert await refusal_of(client.put_pack(backup, a_body())) == "DISK_FULL"
        assert await refusal_of(client.put_index(backup, [])) == "DISK_FULL"
        await client.end(backup)
        retention = await client.open(Purpose.RETENTION)
        await client.mark(retention)
        await client.remove(retention, committed)
        assert await refusal_of(client.put_pack(retention, a_body())) == "DISK_FULL"
        new = await client.put_index(retention, [made])
        assert await client.condemn(retention, listed) == {}
        assert all(f"buckets/{claims.bucket}/{new}" in cluster.files(node) for node in ("a", "b"))
