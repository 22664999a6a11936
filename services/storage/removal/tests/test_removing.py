"""Removal of snapshots (docs/sessions.md, rule 9): by retention sessions, and not under a running backup."""

from dataclasses import replace

import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, condemn, refusal_of, set_deleting, state
from services.storage.tests.cluster import Cluster, a_body, pack, snapshot


async def a_bucket_to_remove_from(cluster: Cluster) -> VaultClaims:
    return replace(await cluster.bucket("a"), scopes=frozenset(Scope))


@pytest.mark.case(number=11)
async def test_a_removed_snapshot_stays_for_the_sessions_that_were_open(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            body = await client.get(await client.open(Purpose.READ), old)
            before = await client.open(Purpose.READ)
            files = cluster.files("a")
            retention = await client.open(Purpose.RETENTION)
            [(seq,)] = cluster.sql("select seq from buckets")
            await client.remove(retention, old)
            assert cluster.sql("select seq from buckets") == [(seq + 1,)]
            assert cluster.sql("select condemned_seq from objects where state = 'condemned'") == [(seq + 1,)]
            after = await client.open(Purpose.READ)
            assert await client.names(before, ObjectKind.SNAPSHOT) == {str(old)}
            assert await client.get(before, old) == body
            for session in (after, retention):
                assert await client.names(session, ObjectKind.SNAPSHOT) == set()
                assert await refusal_of(client.get(session, old)) == "NOT_FOUND"
            assert await refusal_of(client.open(parent=old)) == "PARENT_GONE"
            assert cluster.files("a") == files


async def test_a_repeated_removal_answers_the_same_and_one_of_what_is_gone_says_so(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            first = await client.open(Purpose.RETENTION)
            await client.remove(first, old)
            [(seq,)] = cluster.sql("select seq from buckets")
            await client.remove(first, old)
            assert cluster.sql("select seq from buckets") == [(seq,)]
            assert await refusal_of(client.remove(first, snapshot(b"never was"))) == "NOT_FOUND"
            await client.end(first)
            second = await client.open(Purpose.RETENTION)
            assert await refusal_of(client.remove(second, old)) == "NOT_FOUND"
            await set_deleting(cluster, old)
            assert await refusal_of(client.remove(second, old)) == "NOT_FOUND"


@pytest.mark.case(number=4)
async def test_the_parent_of_a_running_backup_stays_until_it_has_ended(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            backup = await client.open(parent=old)
            retention = await client.open(Purpose.RETENTION)
            [(seq,)] = cluster.sql("select seq from buckets")
            assert await refusal_of(client.remove(retention, old)) == "SNAPSHOT_IN_USE"
            assert cluster.sql("select seq from buckets") == [(seq,)]
            assert state(cluster, old) == "live"
            await client.end(backup)
            await client.remove(retention, old)
            assert state(cluster, old) == "condemned"


async def test_a_changed_snapshot_takes_the_place_of_the_old_one_and_can_be_taken_back(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            new = await client.commit(retention, b"changed")
            await client.remove(retention, old)
            await client.end(retention)
            assert await client.names(await client.open(Purpose.READ), ObjectKind.SNAPSHOT) == {str(new)}
            retention = await client.open(Purpose.RETENTION)
            other = await client.commit(retention, b"changed again")
            await client.remove(retention, other)  # whose user this very session is
            await client.end(retention)
            assert await client.names(await client.open(Purpose.READ), ObjectKind.SNAPSHOT) == {str(new)}


async def test_only_retention_removes_and_snapshots_alone(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, old = await a_committed_snapshot(client)
            for purpose in (Purpose.READ, Purpose.BACKUP, Purpose.ADOPT):
                assert await refusal_of(client.remove(await client.open(purpose), old)) == "NOT_ALLOWED"
            retention = await client.open(Purpose.RETENTION)
            for name in (made, listed, pack(a_body())):
                assert await refusal_of(client.remove(retention, name)) == "INVALID_ARGUMENT"
            await client.end(retention)
            assert await refusal_of(client.remove(retention, old)) == "SESSION_OVER"
        appending = replace(claims, scopes=frozenset((Scope.READ, Scope.APPEND)))
        async with cluster.client("a", appending) as client:
            assert await refusal_of(client.open(Purpose.RETENTION)) == "NOT_ALLOWED"
            assert await refusal_of(client.remove(retention, old)) == "NOT_ALLOWED"
        assert state(cluster, old) == "live"


async def test_a_removed_snapshot_that_is_committed_again_lives_again(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            body = await client.get(await client.open(Purpose.READ), old)
            await condemn(cluster, claims, old)
            await client.commit(await client.open(), body)
            assert state(cluster, old) == "live"
