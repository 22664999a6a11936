"""The rules of docs/sessions.md, as far as they concern opening, using, seeing and committing.

States that a removal, a condemnation or the reaper leaves are set by SQL here; these have tests of their own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import grpc
import pytest
from oort.storage.v1 import objects_pb2, sessions_pb2

from domain.names import ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES, Purpose, Scope
from domain.tokens import VaultClaims
from services.common.testing.server import reason_of
from services.storage.sessions import lifecycle
from services.storage.tests.cluster import Client, Cluster, a_body, a_device, a_session_id, index, pack, snapshot

SILENCE, AGE = timedelta(seconds=60), timedelta(days=30)


async def condemn(cluster: Cluster, claims: VaultClaims, *names: ObjectName) -> None:
    """What a removal or a condemnation leaves."""
    await cluster.change(
        "with b as (update buckets set seq = seq + 1 where id = %s returning seq)"
        " update objects set state = 'condemned', condemned_seq = b.seq from b"
        " where bucket_id = %s and sha256 = any(%s)",
        claims.bucket,
        claims.bucket,
        [bytes.fromhex(name.id) for name in names],
    )


async def set_deleting(cluster: Cluster, name: ObjectName) -> None:
    await cluster.change("update objects set state = 'deleting' where sha256 = %s", bytes.fromhex(name.id))


def state(cluster: Cluster, name: ObjectName) -> str:
    [(found,)] = cluster.sql("select state from objects where sha256 = %s", bytes.fromhex(name.id))
    return str(found)


def users(cluster: Cluster, name: ObjectName) -> set[UUID]:
    rows = cluster.sql(
        "select session_id from object_users u join objects o on o.id = u.object_id where o.sha256 = %s",
        bytes.fromhex(name.id),
    )
    return {row[0] for row in rows}


async def refusal_of(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return reason_of(refusal.value)


async def a_committed_snapshot(client: Client) -> tuple[ObjectName, ObjectName, ObjectName]:
    """A whole little backup in a session of its own: pack, index file, snapshot."""
    session = await client.open()
    await client.initialise(session)
    made = await client.put_pack(session, a_body())
    listed = await client.put_index(session, [made])
    committed = await client.commit(session, a_body(200))
    await client.end(session)
    return made, listed, committed


# Opening


async def test_a_repeated_opening_answers_the_same(cluster: Cluster) -> None:
    cluster.node("a", beat_seconds=20)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = a_session_id()
            first = await client.open_raw(session, Purpose.BACKUP, None)
            again = await client.open_raw(session, Purpose.BACKUP, None)
            assert first == again
            assert first.beat_interval.ToTimedelta() == timedelta(seconds=20)
            later = await client.open_raw(a_session_id(), Purpose.BACKUP, None)
            assert later.opened_seq > first.opened_seq
            assert await refusal_of(client.open(Purpose.READ, session=session)) == "NOT_ALLOWED"
            await client.end(session)
            assert await refusal_of(client.open(session=session)) == "SESSION_OVER"


async def test_an_opening_that_the_device_did_not_sign_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        stranger = a_device()
        async with cluster.client("a", claims) as client:
            client.claims = replace(claims, device_key=stranger.device_key)
            assert await refusal_of(client.open()) == "BAD_SIGNATURE"
            client.claims = replace(claims, bucket=uuid4())
            assert await refusal_of(client.open()) == "BAD_SIGNATURE"


async def test_a_session_belongs_to_its_device(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        other = a_device(tenant=claims.tenant, user=claims.user, bucket=claims.bucket)
        async with cluster.client("a", claims) as client, cluster.client("a", other) as neighbour:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            assert await refusal_of(neighbour.put_pack(session, b"more")) == "NOT_ALLOWED"
            assert await refusal_of(neighbour.get(session, name)) == "NOT_ALLOWED"
            assert await refusal_of(neighbour.list(session, ObjectKind.PACK)) == "NOT_ALLOWED"
            assert await refusal_of(neighbour.end(session)) == "NOT_ALLOWED"
            assert await refusal_of(neighbour.beat(session)) == "NOT_ALLOWED"
            assert await refusal_of(neighbour.open(session=session)) == "NOT_ALLOWED"
            assert await neighbour.get(await neighbour.open(Purpose.READ), name) == b"body"


@pytest.mark.case(number=4)
async def test_a_backup_pins_a_live_parent_and_no_other(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            *_, parent = await a_committed_snapshot(client)
            session = await client.open(parent=parent)
            [(pinned,)] = cluster.sql("select session_id from pins")
            assert pinned == session
            await client.end(session)
            assert cluster.sql("select * from pins") == []
            await condemn(cluster, claims, parent)
            refused = a_session_id()
            assert await refusal_of(client.open(parent=parent, session=refused)) == "PARENT_GONE"
            assert await refusal_of(client.open(parent=snapshot(b"never was"))) == "PARENT_GONE"
            # A refused opening leaves nothing: the same id opens without the parent.
            await client.open(session=refused)
            assert await refusal_of(client.open(Purpose.READ, parent)) == "INVALID_ARGUMENT"


@pytest.mark.case(number=4)
async def test_the_snapshot_of_a_backup_that_still_runs_may_be_a_parent(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            running = await client.open()
            await client.initialise(running)
            parent = await client.commit(running, b"snapshot")
            await client.open(parent=parent)


async def test_only_one_retention_is_open_in_a_bucket(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            first = await client.open(Purpose.RETENTION)
            assert await refusal_of(client.open(Purpose.RETENTION)) == "RETENTION_RUNNING"
            await client.open(Purpose.BACKUP)
            await client.end(first)
            await client.open(Purpose.RETENTION)


# Ending


@pytest.mark.case(number=5)
async def test_nothing_takes_effect_in_a_session_that_is_over(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            await client.end(session)
            await client.end(session)
            for call in (
                client.beat(session),
                client.put_pack(session, b"more"),
                client.put_pack(session, b"body"),
                client.reserve(session, name),
                client.commit(session, b"snapshot"),
                client.initialise(session),
                client.get(session, name),
                client.list(session, ObjectKind.PACK),
            ):
                assert await refusal_of(call) == "SESSION_OVER"
            assert len(cluster.files("a")) == 1


async def test_sessions_that_stop_beating_or_grow_too_old_are_ended(cluster: Cluster) -> None:
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            *_, parent = await a_committed_snapshot(client)
            fresh, silent, old = await client.open(), await client.open(parent=parent), await client.open()
            await cluster.change(
                "update sessions set last_beat = now() - interval '61 s' where id = any(%s)", [fresh, silent]
            )
            await cluster.change("update sessions set opened = now() - interval '31 days' where id = %s", old)
            await client.beat(fresh)
            await client.beat(old)
            assert set(await lifecycle.end_silent(db, SILENCE, AGE)) == {silent, old}
            assert await refusal_of(client.beat(silent)) == "SESSION_OVER"
            assert await refusal_of(client.put_pack(old, b"body")) == "SESSION_OVER"
            assert cluster.sql("select * from pins") == []
            await client.put_pack(fresh, b"body")
            assert await lifecycle.end_silent(db, SILENCE, AGE) == []


async def test_the_node_itself_ends_silent_sessions(cluster: Cluster) -> None:
    cluster.node("a", beat_seconds=0.05)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            async with asyncio.timeout(60):
                while cluster.sql("select 1 from sessions where ended_seq is null"):  # noqa: ASYNC110 - Postgres tells nobody
                    await asyncio.sleep(0.05)
            assert await refusal_of(client.beat(session)) == "SESSION_OVER"


# Seeing


async def test_a_session_sees_what_was_condemned_after_its_opening_and_no_later_one_does(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
            before = await client.open(Purpose.READ)
            await condemn(cluster, claims, committed)
            between = await client.open(Purpose.READ)
            await condemn(cluster, claims, listed)
            await condemn(cluster, claims, made)
            after = await client.open(Purpose.READ)
            sees = {
                session: [await client.names(session, kind) for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX)]
                for session in (before, between, after)
            }
            assert sees == {
                before: [{str(committed)}, {str(listed)}],
                between: [set(), {str(listed)}],
                after: [set(), set()],
            }
            for name in (made, listed, committed):
                assert await client.get(before, name)
                assert await refusal_of(client.get(after, name)) == "NOT_FOUND"


async def test_a_session_sees_what_others_put_after_its_opening(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            reader = await client.open(Purpose.READ)
            name = await client.put_pack(await client.open(), b"body")
            assert await client.names(reader, ObjectKind.PACK) == {str(name)}


# Users


@pytest.mark.case(number=2)
async def test_reserving_revives_what_is_condemned_and_names_what_is_gone(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            first = await client.open()
            live, condemned, deleting = [await client.put_pack(first, a_body()) for _ in range(3)]
            await client.end(first)
            await condemn(cluster, claims, condemned, deleting)
            await set_deleting(cluster, deleting)
            session = await client.open()
            gone = await client.reserve(session, live, condemned, deleting, pack(b"never was"))
            assert gone == [str(deleting), str(pack(b"never was"))]
            assert [state(cluster, name) for name in (live, condemned, deleting)] == ["live", "live", "deleting"]
            assert session in users(cluster, condemned)
            assert session not in users(cluster, deleting)
            assert await client.reserve(session, live) == []


@pytest.mark.case(number=8)
async def test_a_put_of_a_condemned_name_revives_it_and_makes_the_session_its_user(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            first = await client.open()
            name = await client.put_pack(first, b"body")
            await client.end(first)
            await condemn(cluster, claims, name)
            session = await client.open()
            assert await client.names(session, ObjectKind.PACK) == set()
            assert (await client.put(session, name, b"body")).existed
            assert state(cluster, name) == "live"
            assert session in users(cluster, name)
            assert await client.names(session, ObjectKind.PACK) == {str(name)}


@pytest.mark.case(number=8)
async def test_a_put_of_a_name_that_is_being_removed_is_to_be_tried_again(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            await condemn(cluster, claims, name)
            await set_deleting(cluster, name)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.put_pack(session, b"body")
            assert reason_of(refusal.value) == "BEING_REMOVED"
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
            # The reaper's last steps; then the put takes the body anew.
            (cluster.bucket_folder("a", claims.bucket) / name.path).unlink()
            await cluster.change("delete from objects where sha256 = %s", bytes.fromhex(name.id))
            assert not (await client.put(session, name, b"body")).existed
            assert await client.get(session, name) == b"body"


@pytest.mark.case(number=8)
async def test_a_body_on_its_way_while_its_name_is_removed_is_stored_all_the_same(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            begun, done = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncIterator[objects_pb2.PutRequest]:
                header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(b"body")), size=4)
                yield objects_pb2.PutRequest(header=header)
                yield objects_pb2.PutRequest(frame=b"bo")
                begun.set()
                await done.wait()
                yield objects_pb2.PutRequest(frame=b"dy")

            call = asyncio.ensure_future(client.objects.Put(slow(), metadata=client.metadata))
            await begun.wait()
            name = await client.put_pack(session, b"body")
            await cluster.change("delete from objects where sha256 = %s", bytes.fromhex(name.id))
            (cluster.bucket_folder("a", claims.bucket) / name.path).unlink()
            done.set()
            assert not (await call).existed
            assert await client.get(session, name) == b"body"


# Index files and commits


@pytest.mark.case(number=8)
async def test_an_index_file_lists_only_packs_that_the_session_uses(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            first = await client.open()
            old = await client.put_pack(first, a_body())
            old_index = await client.put_index(first, [old], b"an index")
            session = await client.open()
            new = await client.put_pack(session, a_body())
            assert await refusal_of(client.put_index(session, [new, old])) == "NOT_RESERVED"
            # Nor may it put the old session's index file again without holding its packs.
            assert await refusal_of(client.put_index(session, [old], b"an index")) == "NOT_RESERVED"
            assert users(cluster, old_index) == {first}
            await client.reserve(session, old)
            await client.put_index(session, [new, old])
            await client.put_index(session, [old], b"an index")
            assert users(cluster, old_index) == {first, session}
            assert await refusal_of(client.put_index(session, [index(b"no pack")])) == "INVALID_ARGUMENT"


async def test_a_commit_needs_an_index_file_after_the_last_pack(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await refusal_of(client.commit(session, b"snapshot")) == "NOT_INITIALISED"
            await client.initialise(session)
            made = await client.put_pack(session, a_body())
            assert await refusal_of(client.commit(session, b"snapshot")) == "INDEX_NEEDED"
            await client.put_index(session, [made])
            committed = await client.commit(session, b"snapshot")
            # The same commit again, as after a lost answer.
            assert await client.commit(session, b"snapshot") == committed
            await client.reserve(session, made)
            assert await refusal_of(client.commit(session, b"snapshot 2")) == "INDEX_NEEDED"
            await client.put_index(session, [made])
            await client.put(session, made, b"")  # again, by name
            assert await refusal_of(client.commit(session, b"snapshot 2")) == "INDEX_NEEDED"
            assert await client.names(session, ObjectKind.SNAPSHOT) == {str(committed)}
            assert await client.get(session, committed) == b"snapshot"


async def test_a_commit_whose_body_has_another_name_or_is_too_long_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            for name, body, expected in (
                (snapshot(b"other"), b"body", "NAME_MISMATCH"),
                (pack(b"body"), b"body", "INVALID_ARGUMENT"),
                (snapshot(bytes(MAX_SNAPSHOT_BYTES + 1)), bytes(MAX_SNAPSHOT_BYTES + 1), "INVALID_ARGUMENT"),
            ):
                request = sessions_pb2.CommitRequest(session_id=str(session), name=str(name), body=body)
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await client.sessions.Commit(request, metadata=client.metadata)
                assert reason_of(refusal.value) == expected
            assert await client.list(session, ObjectKind.SNAPSHOT) == []


@pytest.mark.case(number=9)
async def test_a_resumed_backup_goes_on_from_what_an_ended_one_stored(cluster: Cluster) -> None:
    """Case 9: the checkpoint index of a backup that was ended, read by another that reserves its pack."""
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            crashed = await client.open()
            await client.initialise(crashed)
            made = await client.put_pack(crashed, b"a pack")
            checkpoint = await client.put_index(crashed, [made])
            await cluster.change("update sessions set last_beat = now() - interval '1 hour'")
            assert await lifecycle.end_silent(db, SILENCE, AGE) == [crashed]
            await condemn(cluster, claims, made)
            session = await client.open()
            assert await client.names(session, ObjectKind.INDEX) == {str(checkpoint)}
            assert await refusal_of(client.put_index(session, [made])) == "NOT_RESERVED"
            assert await client.reserve(session, made) == []
            await client.put_index(session, [made])
            await client.commit(session, b"snapshot")
            assert state(cluster, made) == "live"
