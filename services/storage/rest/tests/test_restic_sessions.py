"""Lock files as sessions, removals as condemnations, restics beside sessions of ours (docs/sessions.md, "restic")."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database
from services.storage.removal.tests.test_reaper import Reapers, reapers
from services.storage.sessions import control, lifecycle
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of, state
from services.storage.tests.cluster import Client, Cluster, a_body, pack, snapshot
from services.storage.tests.restics import Restic, RestNode, a_rest_node, let_pass

# Fixtures that are used by their names.
__all__ = ["reapers"]

SILENCE, AGE = timedelta(seconds=60), timedelta(days=30)


@dataclass
class Scene:
    """A vault with a snapshot of ours, a client of ours and a restic."""

    cluster: Cluster
    node: RestNode
    claims: VaultClaims
    client: Client
    restic: Restic
    made: ObjectName
    listed: ObjectName
    committed: ObjectName

    async def end_silent(self) -> None:
        async with self._database() as db:
            await lifecycle.end_silent(db, SILENCE, AGE)

    async def end(self, session: UUID) -> None:
        """As `oort session end` does."""
        async with self._database() as db:
            assert await control.end(db, session, None)

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Database]:
        db = await Database.open(self.cluster.database.app, self.cluster.database.worker, wait_seconds=60)
        try:
            yield db
        finally:
            await db.close()

    def open_sessions(self) -> list[UUID]:
        found = self.cluster.sql("select id from sessions where purpose = 'restic' and ended_seq is null")
        return [row[0] for row in found]

    async def removed(self, name: ObjectName) -> int:
        return (await self.restic.delete(name)).status


@asynccontextmanager
async def a_scene(cluster: Cluster) -> AsyncIterator[Scene]:
    async with a_rest_node(cluster) as node:
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client, node.restic(claims) as restic:
            made, listed, committed = await a_committed_snapshot(client)
            for [session] in cluster.sql("select id from sessions where ended_seq is null"):
                await client.end(session)
            yield Scene(cluster, node, claims, client, restic, made, listed, committed)


async def test_a_vault_whose_first_backup_still_runs_has_its_config_and_keys_for_a_restic_with_a_lock(
    cluster: Cluster,
) -> None:
    async with a_rest_node(cluster) as node:
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client, node.restic(claims) as restic:
            session = await client.open()
            await client.initialise(session)
            await restic.lock()
            assert (await restic.ask("HEAD", "config")).status == 200
            assert len(await restic.names(ObjectKind.KEY)) == 1
            assert await restic.put(ObjectName.of(ObjectKind.KEY, b"another"), b"another") == 200
            assert len(await restic.names(ObjectKind.KEY)) == 2


async def test_a_lock_opens_a_session_and_the_removal_of_the_last_one_ends_it(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        restic = scene.restic
        assert await restic.put(pack(b"early"), b"early") == 403
        assert (await restic.delete(scene.committed)).status == 403
        first = await restic.lock()
        [session] = scene.open_sessions()
        # A refresh is another file, and the old one goes after it.
        second = await restic.lock()
        assert await restic.names(ObjectKind.LOCK) == {str(first), str(second)}
        assert len((await restic.get(second)).body) == 150
        assert (await restic.delete(first)).status == 200
        assert scene.open_sessions() == [session]
        assert await restic.put(pack(b"now"), b"now") == 200
        assert (await restic.delete(second)).status == 200
        assert scene.open_sessions() == []
        assert await restic.names(ObjectKind.LOCK) == set()
        assert await restic.put(pack(b"late"), b"late") == 403


async def test_every_restic_of_a_vault_sees_the_locks_of_the_others(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene, scene.node.restic(replace(scene.claims, device=uuid4())) as other:
        mine, its = await scene.restic.lock(), await other.lock()
        assert await other.names(ObjectKind.LOCK) == {str(mine), str(its)}
        assert len(scene.open_sessions()) == 2
        # As `restic unlock --remove-all` does.
        assert (await other.delete(mine)).status == 200
        assert await scene.restic.put(pack(b"late"), b"late") == 403
        assert await other.put(pack(b"now"), b"now") == 200


async def test_a_restic_whose_lock_another_has_removed_takes_no_part_in_a_later_session_once_something_was_removed(
    cluster: Cluster,
) -> None:
    async with a_scene(cluster) as scene:
        restic = scene.restic
        # Two of one URL, so that the removal of one lock does not end the session yet.
        old, its = await restic.lock(), await restic.lock()
        for name in (old, its):
            assert await scene.removed(name) == 200
        assert await restic.names(ObjectKind.LOCK) == set()
        assert (await restic.get(old)).status == 404
        retention = await scene.client.open(Purpose.RETENTION)
        await scene.client.end(retention)
        # It refreshes.
        await restic.lock()
        assert len(scene.open_sessions()) == 1
        assert await scene.removed(old) == 200
        assert scene.open_sessions() == []
        assert await restic.put(pack(b"late"), b"late") == 403


async def test_a_removal_that_is_repeated_does_not_end_the_session_of_the_next_restic(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        lock = await scene.restic.lock()
        assert await scene.removed(lock) == 200
        await scene.restic.lock()
        # The first answer was lost.
        assert await scene.removed(lock) == 200
        assert len(scene.open_sessions()) == 1
        names = await scene.restic.back_up()
        assert str(names[2]) in await scene.restic.names(ObjectKind.SNAPSHOT)
        # Or it is one of which the lock was removed: what it listed before is of no use to remove by.
        assert await scene.removed(scene.made) == 403


async def test_a_restic_that_goes_on_after_its_session_was_ended_stores_no_snapshot_and_removes_nothing(
    cluster: Cluster,
) -> None:
    """Between its next lock and the removal of the old one, which ends that session too."""
    async with a_scene(cluster) as scene:
        restic = scene.restic
        await restic.lock()
        [session] = scene.open_sessions()
        await scene.end(session)
        backup = await scene.client.open()
        await scene.client.reserve(backup, scene.made)
        await scene.client.end(backup)
        await restic.lock()
        for name in (scene.made, scene.listed):
            refused = await restic.delete(name)
            assert (refused.status, "No lock of this restic is in force" in refused.line) == (403, True)
            assert state(cluster, name) == "live"
        body = a_body()
        assert await restic.put(snapshot(body), body) == 403


async def test_a_restic_that_begins_after_a_lock_was_lost_lists_first_and_then_does_everything(
    cluster: Cluster,
) -> None:
    async with a_scene(cluster) as scene, scene.node.restic(replace(scene.claims, device=uuid4())) as other:
        # As `restic unlock --remove-all` of another device does.
        assert (await other.delete(await scene.restic.lock())).status == 200
        await scene.restic.lock()
        assert await scene.removed(scene.made) == 403
        assert await scene.restic.names(ObjectKind.INDEX) == {str(scene.listed)}
        await scene.restic.back_up()
        for name in (scene.committed, scene.listed, scene.made):
            assert await scene.removed(name) == 200


async def test_rows_of_locks_that_restics_have_removed_go_after_a_day(cluster: Cluster, reapers: Reapers) -> None:
    async with a_scene(cluster) as scene:
        for _ in range(3):
            assert await scene.removed(await scene.restic.lock()) == 200
        lost = await scene.restic.lock()
        [session] = scene.open_sessions()
        await scene.end(session)
        await reapers.reap("a")
        assert cluster.sql("select count(*) from restic_locks") == [(4,)]
        await cluster.change("update restic_locks set removed = removed - interval '25 hours'")
        await reapers.reap("a")
        assert cluster.sql("select sha256 from restic_locks") == [(bytes.fromhex(lost.id),)]


async def test_locks_that_were_removed_or_are_of_sessions_that_are_over_are_empty(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        removed = await scene.restic.lock()
        await scene.restic.lock()
        assert await scene.removed(removed) == 200
        assert await scene.removed(removed) == 404
        await let_pass(cluster, 31)
        await scene.end_silent()
        await scene.restic.lock()
        assert cluster.sql("select count(*), count(body) from restic_locks") == [(3, 1)]


async def test_half_an_hour_without_a_refresh_ends_a_session_and_a_minute_does_not(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        await scene.restic.lock()
        await let_pass(cluster, 29)
        await scene.end_silent()
        assert len(scene.open_sessions()) == 1
        await scene.restic.lock()
        await let_pass(cluster, 29)
        await scene.end_silent()
        # Of the two files one is older: it holds nobody up, and the session goes on.
        assert len(await scene.restic.names(ObjectKind.LOCK)) == 1
        assert len(scene.open_sessions()) == 1
        await let_pass(cluster, 2)
        await scene.end_silent()
        assert scene.open_sessions() == []
        assert await scene.restic.put(pack(b"late"), b"late") == 403


async def test_a_restic_that_has_slept_takes_no_part_in_a_later_session(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        old = await scene.restic.lock()
        await let_pass(cluster, 31)
        await scene.end_silent()
        # It wakes up, and refreshes: what it knows is of a session that is over.
        await scene.restic.lock()
        assert await scene.removed(old) == 200
        assert scene.open_sessions() == []
        assert await scene.restic.put(pack(b"late"), b"late") == 403


async def test_a_restic_sees_the_vault_as_it_was_and_what_it_did_itself(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        client, restic = scene.client, scene.restic
        running = await client.open()
        before = await client.put_pack(running, b"put before the lock")
        lock = await restic.lock()
        await client.put_index(running, [before])
        after = await client.commit(running, b"a snapshot after the lock")
        await client.end(running)
        mine = await restic.back_up()
        assert await restic.names(ObjectKind.PACK) == {str(scene.made), str(mine[0])}
        assert await restic.names(ObjectKind.INDEX) == {str(scene.listed), str(mine[1])}
        assert await restic.names(ObjectKind.SNAPSHOT) == {str(scene.committed), str(mine[2])}
        assert (await restic.get(before)).status == 404
        assert await scene.removed(before) == 404
        retention = await client.open(Purpose.RETENTION)
        await client.remove(retention, scene.committed)
        await client.end(retention)
        assert str(scene.committed) in await restic.names(ObjectKind.SNAPSHOT)
        assert (await restic.get(scene.committed)).status == 200
        await restic.delete(lock)
        await restic.lock()
        assert await restic.names(ObjectKind.SNAPSHOT) == {str(after), str(mine[2])}


async def test_a_restic_that_begins_in_the_middle_of_a_retention_sees_the_index_file_that_stays(
    cluster: Cluster,
) -> None:
    async with a_scene(cluster) as scene:
        retention = await scene.client.open(Purpose.RETENTION)
        await scene.client.mark(retention)
        rewritten = await scene.client.put_index(retention, [scene.made])
        assert await scene.client.condemn(retention, scene.listed) == {}
        await scene.restic.lock()
        assert await scene.restic.names(ObjectKind.INDEX) == {str(rewritten)}
        assert await scene.removed(rewritten) == 403


async def test_the_session_of_a_restic_is_opened_by_its_locks_alone(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        assert await refusal_of(scene.client.open(Purpose.RESTIC)) == "INVALID_ARGUMENT"
        await scene.restic.lock()
        [session] = scene.open_sessions()
        assert await refusal_of(scene.client.condemn(session, scene.made)) == "NOT_ALLOWED"
        assert await refusal_of(scene.client.remove(session, scene.committed)) == "NOT_ALLOWED"
