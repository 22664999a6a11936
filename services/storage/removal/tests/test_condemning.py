"""Mark and condemnations (docs/sessions.md, rules 9 and 10)."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from oort.storage.v1 import objects_pb2

from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from services.storage.removal.tests.test_removing import a_bucket_to_remove_from
from services.storage.sessions.tests.test_session_order import holding, reason, waits
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of, set_deleting, state
from services.storage.tests.cluster import Client, Cluster, a_body, index, pack


@pytest.mark.case(number=7)
async def test_a_mark_is_drawn_once_and_kept_by_the_node(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            retention, mark_id = await client.open(Purpose.RETENTION), uuid4()
            [(seq,)] = cluster.sql("select seq from buckets")
            assert await client.mark(retention, mark_id) == seq + 1
            # The answer was lost, and others went on meanwhile.
            await client.end(await client.open())
            assert await client.mark(retention, mark_id) == seq + 1
            assert await refusal_of(client.mark(retention)) == "MARKED_ALREADY"
            assert cluster.sql("select mark_seq from sessions where id = %s", retention) == [(seq + 1,)]
            await client.end(retention)
            assert await refusal_of(client.mark(retention, mark_id)) == "SESSION_OVER"
            assert await client.mark(await client.open(Purpose.RETENTION), mark_id) > seq + 1


@pytest.mark.case(number=7)
async def test_a_plan_is_carried_out_in_the_session_that_drew_its_mark_and_in_no_other(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
            first = await client.open(Purpose.RETENTION)
            assert await refusal_of(client.condemn(first, listed)) == "MARK_NEEDED"
            await client.mark(first)
            await client.end(first)
            assert await refusal_of(client.condemn(first, listed)) == "SESSION_OVER"
            second = await client.open(Purpose.RETENTION)
            assert await refusal_of(client.condemn(second, listed)) == "MARK_NEEDED"
            assert {state(cluster, name) for name in (made, listed)} == {"live"}


async def test_only_retention_with_the_right_to_delete_marks_and_condemns(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, snapshot = await a_committed_snapshot(client)
            for purpose in (Purpose.READ, Purpose.BACKUP, Purpose.ADOPT):
                session = await client.open(purpose)
                assert await refusal_of(client.mark(session)) == "NOT_ALLOWED"
                assert await refusal_of(client.condemn(session, listed)) == "NOT_ALLOWED"
                await client.end(session)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            for names in ((snapshot,), (CONFIG,), (listed, made)):
                assert await refusal_of(client.condemn(retention, *names)) == "INVALID_ARGUMENT"
            assert await refusal_of(client.condemn(retention, *[made] * 1001)) == "INVALID_ARGUMENT"
        async with cluster.client("a", replace(claims, scopes=frozenset((Scope.READ, Scope.APPEND)))) as client:
            assert await refusal_of(client.condemn(retention, listed)) == "NOT_ALLOWED"
            assert await refusal_of(client.mark(retention)) == "NOT_ALLOWED"
        assert {state(cluster, name) for name in (made, listed, snapshot)} == {"live"}


async def test_what_is_condemned_is_hidden_from_retention_and_from_later_sessions(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
            before = await client.open(Purpose.READ)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            [(seq,)] = cluster.sql("select seq from buckets")
            assert await client.condemn(retention, listed) == {}
            assert await client.condemn(retention, made) == {}
            assert cluster.sql("select seq from buckets") == [(seq + 2,)]
            # Again, as after a lost answer; and with what is going, or was never there.
            assert await client.condemn(retention, made, pack(b"never")) == {}
            await set_deleting(cluster, made)
            assert await client.condemn(retention, made) == {}
            assert await client.condemn(retention) == {}
            assert cluster.sql("select seq from buckets") == [(seq + 2,)]
            after = await client.open(Purpose.READ)
            for session, seen in ((before, {str(listed)}), (retention, set()), (after, set())):
                assert await client.names(session, ObjectKind.INDEX) == seen
            assert await client.get(before, listed)
            assert await refusal_of(client.get(retention, listed)) == "NOT_FOUND"


Act = Callable[[Client, ObjectName, bytes], Awaitable[str]]


async def reserving(client: Client, name: ObjectName, _body: bytes) -> str:
    session = await client.open()
    await client.reserve(session, name)
    return str(session)


async def putting_again(client: Client, name: ObjectName, body: bytes) -> str:
    session = await client.open()
    await client.put(session, name, body)
    return str(session)


@pytest.mark.case(number=2)
@pytest.mark.case(number=3)
@pytest.mark.case(number=8)
@pytest.mark.parametrize("act", [reserving, putting_again])
async def test_what_a_session_uses_that_was_not_over_before_the_mark_stays(cluster: Cluster, act: Act) -> None:
    """Cases 2, 3 and 8: use before and after the mark, ends just before and just after it."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            bodies = {pack(body): body for body in (a_body() for _ in range(5))}
            over, ended_after, still_open, used_after, unused = bodies
            first = await client.open()
            await client.initialise(first)
            for name, body in bodies.items():
                await client.put(first, name, body)
            await client.end(first)
            sessions = {name: await act(client, name, bodies[name]) for name in (over, ended_after, still_open)}
            await client.end(sessions[over])  # type: ignore[arg-type]
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            await client.end(sessions[ended_after])  # type: ignore[arg-type]
            sessions[used_after] = await act(client, used_after, bodies[used_after])
            await client.end(sessions[used_after])  # type: ignore[arg-type]
            stays = await client.condemn(retention, *bodies)
            assert set(stays) == {str(name) for name in (ended_after, still_open, used_after)}
            for name in (ended_after, still_open, used_after):
                assert sessions[name] in stays[str(name)]
                assert state(cluster, name) == "live"
            assert "that is running" in stays[str(still_open)]
            assert "ended after the mark" in stays[str(ended_after)]
            assert {state(cluster, name) for name in (over, unused)} == {"condemned"}
            # What is used after its condemnation lives again, and stays from now on.
            await act(client, unused, bodies[unused])
            assert set(await client.condemn(retention, unused)) == {str(unused)}
            await client.end(retention)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert set(await client.condemn(retention, *bodies)) == {str(still_open), str(unused)}


@pytest.mark.case(number=9)
async def test_an_index_file_of_a_backup_that_runs_stays(cluster: Cluster) -> None:
    """Case 9: the checkpoint of a backup is read by another only while nothing of it can be condemned."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            backup = await client.open()
            await client.initialise(backup)
            made = await client.put_pack(backup, a_body())
            checkpoint = await client.put_index(backup, [made])
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert set(await client.condemn(retention, checkpoint)) == {str(checkpoint)}
            assert set(await client.condemn(retention, made)) == {str(made)}


async def test_a_retention_condemns_nothing_while_its_new_packs_are_in_no_index_file(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            repacked = await client.put_pack(retention, a_body())
            assert await refusal_of(client.condemn(retention, listed)) == "INDEX_NEEDED"
            rewritten = await client.put_index(retention, [repacked])
            assert await client.condemn(retention, listed) == {}
            assert await client.condemn(retention, made) == {}
            stays = await client.condemn(retention, rewritten)
            assert stays == {str(rewritten): "this retention has put it itself"}
            assert index(b"") != rewritten


async def test_a_key_is_condemned_while_another_is_left(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            first = await client.open()
            await client.initialise(first)
            body = a_body()
            old, new = ObjectName.of(ObjectKind.KEY, b"key of config"), ObjectName.of(ObjectKind.KEY, body)
            await client.end(first)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert await client.condemn(retention, old) == {str(old): "the vault would have no key"}
            await client.put(retention, new, body)
            assert await client.condemn(retention, old) == {}
            assert await client.condemn(retention, old) == {}
            assert await client.names(retention, ObjectKind.KEY) == {str(new)}
            await client.end(retention)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            assert set(await client.condemn(retention, new)) == {str(new)}


@pytest.mark.case(number=11)
async def test_a_list_in_pages_is_the_same_before_and_after_index_files_are_swapped(cluster: Cluster) -> None:
    """Case 11: a restore that has read one page of the index files finds the rest of them."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            first = await client.open()
            await client.initialise(first)
            old = {str(await client.put_index(first, [])) for _ in range(5)}
            await client.end(first)
            reader = await client.open(Purpose.READ)
            request = objects_pb2.ListRequest(session_id=str(reader), kind=ObjectKind.INDEX, page_size=2)
            page = await client.objects.List(request, metadata=client.metadata)
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            await client.put_index(retention, [])
            assert await client.condemn(retention, *map(ObjectName.parse, old)) == {}
            found = {one.name for one in page.objects}
            while page.next_page_token:
                request.page_token = page.next_page_token
                page = await client.objects.List(request, metadata=client.metadata)
                found |= {one.name for one in page.objects}
            assert old <= found
            assert old.isdisjoint(await client.names(retention, ObjectKind.INDEX))


@pytest.mark.case(number=3)
@pytest.mark.case(number=13)
async def test_a_mark_that_waits_for_an_end_counts_the_session_as_over(cluster: Cluster) -> None:
    """Case 13: a commit with its end held open against the mark."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            backup = await client.open()
            await client.reserve(backup, made)
            retention = await client.open(Purpose.RETENTION)
            async with holding(cluster, claims.bucket) as other:
                marking = await waits(cluster, client.mark(retention))
                await other.execute(
                    "with b as (update buckets set seq = seq + 1 where id = %s returning seq)"
                    " update sessions set ended_seq = b.seq from b where sessions.id = %s",
                    (claims.bucket, backup),
                )
            mark = await marking
            [(ended,)] = cluster.sql("select ended_seq from sessions where id = %s", backup)
            assert ended < mark
            assert await client.condemn(retention, made) == {}


@pytest.mark.case(number=3)
@pytest.mark.case(number=13)
async def test_an_end_that_waits_for_the_mark_comes_after_it(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            backup = await client.open()
            await client.reserve(backup, made)
            retention = await client.open(Purpose.RETENTION)
            async with holding(cluster, claims.bucket) as other:
                ending = await waits(cluster, client.end(backup))
                await other.execute(
                    "with b as (update buckets set seq = seq + 1 where id = %s returning seq)"
                    " update sessions set mark_seq = b.seq from b where sessions.id = %s",
                    (claims.bucket, retention),
                )
            await ending
            assert set(await client.condemn(retention, made)) == {str(made)}


@pytest.mark.case(number=5)
@pytest.mark.case(number=13)
async def test_a_condemnation_that_waits_for_a_reserve_finds_its_user_and_one_of_an_ended_session_is_refused(
    cluster: Cluster,
) -> None:
    """Cases 5 and 13: a reserve held open against condemn; a condemnation in flight when its session ends."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            made, listed, _ = await a_committed_snapshot(client)
            backup = await client.open()
            retention = await client.open(Purpose.RETENTION)
            await client.mark(retention)
            async with holding(cluster, claims.bucket) as other:
                condemning = await waits(cluster, client.condemn(retention, made))
                await other.execute(
                    "insert into object_users (object_id, session_id, tenant_id, user_id)"
                    " select id, %s, tenant_id, user_id from objects where sha256 = %s",
                    (backup, bytes.fromhex(made.id)),
                )
            assert set(await condemning) == {str(made)}
            async with holding(cluster, claims.bucket) as other:
                condemning = await waits(cluster, client.condemn(retention, listed))
                marking = await waits(cluster, client.mark(retention))
                await other.execute("update sessions set ended_seq = 1000 where id = %s", (retention,))
            assert [await reason(condemning), await reason(marking)] == ["SESSION_OVER"] * 2
            assert {state(cluster, name) for name in (made, listed)} == {"live"}


async def a_full_retention(client: Client, steps: int, kept: dict[ObjectName, bytes]) -> None:
    """Rewrites the vault to the packs of `kept`, bodies by name, and stops after so many steps; the last one ends it.

    Its mark, one pack anew for all that are kept, an index file of it, then the old index files and packs.
    """
    session = await client.open(Purpose.RETENTION)
    repacked = a_body()
    try:
        for step in range(steps):
            if step == 0:
                await client.mark(session)
                indexes = [ObjectName.parse(name) for name in await client.names(session, ObjectKind.INDEX)]
                packs = [ObjectName.parse(name) for name in await client.names(session, ObjectKind.PACK)]
            elif step == 1:
                await client.put_pack(session, repacked)
            elif step == 2:
                await client.put_index(session, [pack(repacked)])
            elif step == 3:
                assert await client.condemn(session, *indexes) == {}
            elif step == 4:
                assert await client.condemn(session, *packs) == {}
                kept[pack(repacked)] = repacked
    finally:
        await client.end(session)


@pytest.mark.case(number=6)
@pytest.mark.case(number=15)
async def test_a_retention_that_crashed_after_any_step_is_followed_by_one_that_leaves_what_is_needed(
    cluster: Cluster,
) -> None:
    """Cases 6 and 15, as far as the node sees them."""
    async with cluster.up("a"):
        claims = await a_bucket_to_remove_from(cluster)
        async with cluster.client("a", claims) as client:
            *_, committed = await a_committed_snapshot(client)
            for steps in range(1, 6):
                kept: dict[ObjectName, bytes] = {}
                await a_full_retention(client, steps, kept)
                await a_full_retention(client, 5, kept)
                reader = await client.open(Purpose.READ)
                [only] = {str(name) for name in kept} & await client.names(reader, ObjectKind.PACK)
                assert await client.names(reader, ObjectKind.PACK) == {only}
                assert len(await client.names(reader, ObjectKind.INDEX)) == 1
                assert await client.get(reader, ObjectName.parse(only)) == kept[ObjectName.parse(only)]
                assert await client.get(reader, committed)
                await client.end(reader)
