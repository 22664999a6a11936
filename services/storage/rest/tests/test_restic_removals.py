"""What a restic may remove, and what stays for its sake or that of others (docs/sessions.md, "restic")."""

from dataclasses import replace
from uuid import uuid4

import pytest

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from services.storage.removal.tests.test_restoring import an_operator
from services.storage.rest.tests.test_restic_sessions import a_scene
from services.storage.sessions.tests.test_sessions import state
from services.storage.tests.cluster import Cluster, a_body, a_session_id, index, pack
from services.storage.tests.restics import a_rest_node


async def test_a_removal_is_a_condemnation(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        await scene.restic.lock()
        reader = await scene.client.open(Purpose.READ)
        for name in (scene.committed, scene.listed, scene.made):
            assert await scene.removed(name) == 200
            assert await scene.removed(name) == 200
            assert state(cluster, name) == "condemned"
            assert (await scene.restic.get(name)).status == 404
        assert await scene.client.names(reader, ObjectKind.PACK) == {str(scene.made)}


async def test_a_restic_removes_the_keys_that_restics_have_added_but_the_last(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node, node.restic(await cluster.bucket("a")) as restic:
        await restic.initialise()
        [first] = await restic.names(ObjectKind.KEY)
        lock = await restic.lock()
        body = a_body(300)
        added = await restic.store(ObjectName.of(ObjectKind.KEY, body), body)
        assert (await restic.delete(ObjectName.parse(first))).status == 200
        await restic.delete(lock)
        await restic.lock()
        refused = await restic.delete(added)
        assert (refused.status, "no key" in refused.line) == (403, True)


async def test_a_restic_leaves_the_keys_by_which_backup_tool_opens_a_vault(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        lock = await scene.restic.lock()
        body = a_body(300)
        added = await scene.restic.store(ObjectName.of(ObjectKind.KEY, body), body)
        await scene.restic.delete(lock)
        await scene.restic.lock()
        [ours] = await scene.restic.names(ObjectKind.KEY) - {str(added)}
        refused = await scene.restic.delete(ObjectName.parse(ours))
        assert (refused.status, "no restic has added it" in refused.line) == (403, True)
        assert await scene.removed(added) == 200
        await cluster.change("update objects set created_by = null where kind = 'keys'")
        assert await scene.removed(ObjectName.parse(ours)) == 403
        assert state(cluster, ObjectName.parse(ours)) == "live"


async def test_what_a_running_backup_uses_stays_also_when_it_has_ended_since(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        backup = await scene.client.open()
        await scene.client.reserve(backup, scene.made)
        await scene.restic.lock()
        refused = await scene.restic.delete(scene.made)
        assert (refused.status, "a backup that is running uses it" in refused.line) == (403, True)
        await scene.client.end(backup)
        assert await scene.removed(scene.made) == 403
        assert state(cluster, scene.made) == "live"


async def test_the_parent_of_a_backup_stays_also_when_that_has_ended_since(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        backup = await scene.client.open(Purpose.BACKUP, scene.committed)
        lock = await scene.restic.lock()
        assert await scene.removed(scene.committed) == 403
        await scene.client.end(backup)
        # restic knows nothing of the snapshot that it has committed.
        assert await scene.removed(scene.committed) == 403
        await scene.restic.delete(lock)
        await scene.restic.lock()
        assert await scene.removed(scene.committed) == 200


async def test_index_files_and_packs_stay_after_a_snapshot_had_to(cluster: Cluster) -> None:
    """restic goes on with a prune as if the snapshot had gone."""
    async with a_scene(cluster) as scene:
        backup = await scene.client.open(Purpose.BACKUP, scene.committed)
        lock = await scene.restic.lock()
        assert await scene.removed(scene.committed) == 403
        rewritten = a_body()
        await scene.restic.store(index(rewritten), rewritten)
        for name in (scene.listed, scene.made):
            refused = await scene.restic.delete(name)
            assert (refused.status, "a snapshot or an index file had to stay" in refused.line) == (403, True)
            assert state(cluster, name) == "live"
        await scene.client.end(backup)
        await scene.restic.delete(lock)
        await scene.restic.lock()
        for name in (scene.committed, scene.listed, scene.made):
            assert await scene.removed(name) == 200


async def test_packs_stay_after_an_index_file_had_to_wait_for_another(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        await scene.restic.lock()
        body = a_body()
        await scene.restic.store(pack(body), body)
        assert await scene.removed(scene.listed) == 403
        listing = a_body()
        await scene.restic.store(index(listing), listing)
        assert await scene.removed(scene.made) == 403


async def test_packs_stay_after_an_index_file_had_to(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        backup = await scene.client.open()
        await scene.client.reserve(backup, scene.made)
        again = a_body()
        listed = await scene.client.put_index(backup, [scene.made], again)
        await scene.client.end(backup)
        unused = await scene.client.put_pack(other := await scene.client.open(), b"in no index")
        await scene.client.end(other)
        user = await scene.client.open()
        await scene.client.put(user, listed, again, [])
        await scene.restic.lock()
        assert await scene.removed(listed) == 403
        refused = await scene.restic.delete(unused)
        assert (refused.status, "an index file had to stay" in refused.line) == (403, True)


async def test_nothing_is_removed_beside_a_retention_of_ours(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        await scene.restic.lock()
        retention = await scene.client.open(Purpose.RETENTION)
        assert await scene.removed(scene.committed) == 403
        await scene.client.end(retention)
        # It may have put an index file that lists what restic knows to be of no use.
        assert await scene.removed(scene.made) == 403


@pytest.mark.parametrize("append_only", [False, True])
async def test_an_operator_s_restore_goes_on_beside_a_restic_which_removes_nothing_that_is_older(
    cluster: Cluster, *, append_only: bool
) -> None:
    async with a_scene(cluster) as scene, scene.node.restic(scene.claims, append_only=append_only) as restic:
        retention = await scene.client.open(Purpose.RETENTION)
        await scene.client.remove(retention, scene.committed)
        await scene.client.end(retention)
        # It sees no snapshot, so its prune would remove all.
        lock = await restic.lock()
        async with an_operator(cluster, scene.claims) as operator:
            session = a_session_id()
            assert [one.name for one in (await operator.step(session)).restored] == [str(scene.committed)]
            assert (await restic.delete(scene.listed)).status == 403
            while not (await operator.step(session)).done:
                pass
            assert [(await restic.delete(name)).status for name in (scene.listed, scene.made)] == [403, 403]
        if append_only:
            return
        assert (await restic.delete(lock)).status == 200
        await restic.lock()
        assert (await restic.delete(scene.committed)).status == 200
        assert [(await restic.delete(name)).status for name in (scene.listed, scene.made)] == [200, 200]


async def test_a_retention_of_ours_takes_no_pack_from_a_restic(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene:
        client = scene.client
        retention = await client.open(Purpose.RETENTION)
        await client.mark(retention)
        lock = await scene.restic.lock()
        for name in (scene.listed, scene.made):
            refused = await client.condemn(retention, name)
            assert refused == {
                str(name): f"a restic that is running uses it (session {scene.open_sessions()[0]})",
            }
        await scene.restic.delete(lock)
        assert set(await client.condemn(retention, scene.listed)) == {str(scene.listed)}
        await client.end(retention)
        retention = await client.open(Purpose.RETENTION)
        await client.mark(retention)
        assert await client.condemn(retention, scene.listed) == {}


async def test_a_restic_takes_no_pack_from_another(cluster: Cluster) -> None:
    async with a_scene(cluster) as scene, scene.node.restic(replace(scene.claims, device=uuid4())) as other:
        lock = await other.lock()
        await scene.restic.lock()
        assert await scene.removed(scene.made) == 403
        await other.delete(lock)
        assert await scene.removed(scene.made) == 403
