"""Case 13 of docs/sessions.md: two real connections, one transaction held open against another.

The bucket's row is the one lock. A second connection takes it as retention will, and what the node does meanwhile
waits and then finds the world as the first transaction left it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import grpc
import psycopg
import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.testing.server import reason_of
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, state
from services.storage.store import buckets, objects
from services.storage.tests.cluster import Client, Cluster, a_body, a_session_id

pytestmark = pytest.mark.case(number=13)
Connection = psycopg.AsyncConnection[Any]


@asynccontextmanager
async def holding(cluster: Cluster, bucket: UUID) -> AsyncIterator[Connection]:
    """A transaction of another node that has locked the bucket's row; committed at the end."""
    async with await psycopg.AsyncConnection.connect(cluster.database.worker) as other:
        await other.execute("select 1 from buckets where id = %s for update", (bucket,))
        yield other


def waiting(cluster: Cluster) -> set[tuple[object, ...]]:
    """The transactions in the cluster's database that wait for a lock."""
    found = cluster.sql(
        "select a.pid, a.xact_start from pg_locks l join pg_stat_activity a on a.pid = l.pid"
        " where not l.granted and a.datname = current_database()"
    )
    return set(found)


async def waits(cluster: Cluster, call: Awaitable[Any]) -> "asyncio.Future[Any]":
    """Begin a call and come back when its transaction waits for a lock."""
    before = waiting(cluster)
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(60):
        while waiting(cluster) <= before:
            assert not task.done(), task
            await asyncio.sleep(0.01)
    return task


async def condemn(other: Connection, bucket: UUID, sha256: bytes) -> bool:
    """As rule 10: refused while a user's session is open."""
    cursor = await other.execute(
        "with b as (update buckets set seq = seq + 1 where id = %s returning seq)"
        " update objects o set state = 'condemned', condemned_seq = b.seq from b where o.sha256 = %s and not exists ("
        " select 1 from object_users u join sessions s on s.id = u.session_id"
        " where u.object_id = o.id and s.ended_seq is null)",
        (bucket, sha256),
    )
    return cursor.rowcount == 1


async def reason(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return reason_of(refusal.value)


async def an_old_pack(client: Client) -> Any:
    first = await client.open()
    await client.initialise(first)
    name = await client.put_pack(first, a_body())
    await client.end(first)
    return name


@pytest.mark.case(number=2)
async def test_a_reserve_that_waits_for_a_condemnation_revives_what_it_condemned(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            session = await client.open()
            async with holding(cluster, claims.bucket) as other:
                assert await condemn(other, claims.bucket, bytes.fromhex(name.id))
                reserving = await waits(cluster, client.reserve(session, name))
            assert await reserving == []
            assert state(cluster, name) == "live"


async def test_a_condemnation_that_waits_for_a_reserve_finds_its_user(cluster: Cluster) -> None:
    async with cluster.up("a") as [db]:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            session = await client.open()
            async with db.unit(claims.tenant, claims.user) as unit:
                assert await buckets.lock(unit, claims.bucket)
                found = await objects.reservable(unit, claims.bucket, [bytes.fromhex(name.id)])
                await objects.use(unit, list(found.values()), session, claims.tenant, claims.user)

                async def retention() -> bool:
                    async with holding(cluster, claims.bucket) as other:
                        return await condemn(other, claims.bucket, bytes.fromhex(name.id))

                condemning = await waits(cluster, retention())
            assert not await condemning
            assert state(cluster, name) == "live"


@pytest.mark.case(number=2)
async def test_a_reserve_that_waits_for_the_reaper_s_decision_names_the_pack_gone(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            session = await client.open()
            async with holding(cluster, claims.bucket) as other:
                await condemn(other, claims.bucket, bytes.fromhex(name.id))
                await other.execute("update objects set state = 'deleting' where state = 'condemned'")
                reserving = await waits(cluster, client.reserve(session, name))
            assert await reserving == [str(name)]


@pytest.mark.case(number=5)
async def test_a_commit_that_waits_while_its_session_is_ended_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            # Two entries of a bucket wait for its lock, and others for their turn.
            for kinds in (("commit", "put", "reserve"), ("put again", "index")):
                session = await client.open()
                await client.reserve(session, name)
                await client.put_index(session, [name])
                calls: dict[str, Callable[[], Awaitable[Any]]] = {
                    "commit": partial(client.commit, session, b"snapshot"),
                    "put": partial(client.put_pack, session, b"pack"),
                    "put again": partial(client.put, session, name, b""),
                    "index": partial(client.put_index, session, [name]),
                    "reserve": partial(client.reserve, session, name),
                }
                async with holding(cluster, claims.bucket) as other:
                    tasks = [await waits(cluster, calls[kind]()) for kind in kinds]
                    await other.execute("update sessions set ended_seq = 1000 where id = %s", (session,))
                assert [await reason(task) for task in tasks] == ["SESSION_OVER"] * len(kinds)
            later = await client.open()
            assert await client.list(later, ObjectKind.SNAPSHOT) == []
        _files_are_all_entered(cluster, claims)


def _files_are_all_entered(cluster: Cluster, claims: VaultClaims) -> None:
    [(count,)] = cluster.sql("select objects from buckets where id = %s", claims.bucket)
    files = cluster.files("a")
    assert len(files) == count
    assert all(name.startswith("buckets/") for name in files)


@pytest.mark.case(number=4)
async def test_an_opening_that_waits_while_its_parent_is_removed_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            *_, parent = await a_committed_snapshot(client)
            session = a_session_id()
            async with holding(cluster, claims.bucket) as other:
                assert await condemn(other, claims.bucket, bytes.fromhex(parent.id))
                opening = await waits(cluster, client.open(parent=parent, session=session))
            assert await reason(opening) == "PARENT_GONE"
            assert cluster.sql("select 1 from sessions where id = %s", session) == []


async def test_an_opening_that_waits_for_a_removal_comes_after_it(cluster: Cluster) -> None:
    """The reaper's horizon is the oldest opening: one that waited is younger than what was condemned before it."""
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            session = a_session_id()
            async with holding(cluster, claims.bucket) as other:
                assert await condemn(other, claims.bucket, bytes.fromhex(name.id))
                opening = await waits(cluster, client.open(session=session))
            await opening
            [(opened,)] = cluster.sql("select opened_seq from sessions where id = %s", session)
            [(condemned,)] = cluster.sql("select condemned_seq from objects where sha256 = %s", bytes.fromhex(name.id))
            assert opened > condemned
            assert await reason(client.get(session, name)) == "NOT_FOUND"


@pytest.mark.case(number=4)
async def test_a_removal_that_waits_for_an_opening_finds_its_pin(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            *_, parent = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            backup = await client.open()
            async with holding(cluster, claims.bucket) as other:
                await other.execute(
                    "insert into pins (session_id, object_id, tenant_id, user_id)"
                    " select %s, id, tenant_id, user_id from objects where sha256 = %s",
                    (backup, bytes.fromhex(parent.id)),
                )
                removing = await waits(cluster, client.remove(retention, parent))
            assert await reason(removing) == "SNAPSHOT_IN_USE"
            assert state(cluster, parent) == "live"


@pytest.mark.case(number=5)
async def test_a_removal_that_waits_while_its_session_is_ended_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            *_, old = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            async with holding(cluster, claims.bucket) as other:
                removing = await waits(cluster, client.remove(retention, old))
                await other.execute("update sessions set ended_seq = 1000 where id = %s", (retention,))
            assert await reason(removing) == "SESSION_OVER"
            assert state(cluster, old) == "live"


@pytest.mark.case(number=8)
async def test_a_put_that_waits_for_a_condemnation_of_its_name_revives_it(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await an_old_pack(client)
            session = await client.open()
            async with holding(cluster, claims.bucket) as other:
                assert await condemn(other, claims.bucket, bytes.fromhex(name.id))
                putting = await waits(cluster, client.put(session, name, b""))
            assert (await putting).existed
            assert state(cluster, name) == "live"
