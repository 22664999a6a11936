"""A catalogue that was lost is made again from the disks, and everything goes on."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from oort.auth.v1 import owners_pb2, owners_pb2_grpc
from oort.storage.v1 import rescans_pb2, rescans_pb2_grpc

from domain.names import SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.interceptors import MapErrors
from services.common.listeners import Served, internal_credentials, listen
from services.common.metrics import Metrics
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.tests.test_healing import place_of
from services.storage.upkeep.tests.test_scrub import scrubbed
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName

_TABLES = "nodes, buckets, homes, objects, sessions, object_users, pins, missing_copies, removals, restic_locks"


class Auth(owners_pb2_grpc.OwnerServiceServicer):
    """What auth says of owners: the real one is in services/auth."""

    def __init__(self, cluster: str, known: Iterable[VaultClaims]) -> None:
        self._cluster = cluster
        self._known = {str(claims.bucket): claims for claims in known}

    async def GetOwners(
        self,
        request: owners_pb2.GetOwnersRequest,
        context: grpc.aio.ServicerContext[owners_pb2.GetOwnersRequest, owners_pb2.GetOwnersResponse],  # noqa: ARG002
    ) -> owners_pb2.GetOwnersResponse:
        assert request.cluster == self._cluster
        owners = [
            owners_pb2.Owner(
                bucket_id=bucket,
                tenant_id=str(claims.tenant),
                user_id=str(claims.user),
                copies=2,
                ack_copies=1,
                quota_bytes=1 << 40,
            )
            for bucket in request.bucket_ids
            if (claims := self._known.get(bucket)) is not None
        ]
        return owners_pb2.GetOwnersResponse(owners=owners)


@asynccontextmanager
async def auth_knowing(cluster: Cluster, *known: VaultClaims) -> AsyncIterator[None]:
    """An auth role that the nodes ask."""
    settings = next(iter(cluster.settings.values()))
    name = owners_pb2.DESCRIPTOR.services_by_name["OwnerService"].full_name
    served = [Served(owners_pb2_grpc.add_OwnerServiceServicer_to_server, Auth(settings.cluster_name, known), name)]
    around, credentials = (
        (MapErrors("auth", Metrics("auth", "auth-1", "test"), "internal"),),
        internal_credentials(settings),
    )
    listener = await listen(str(settings.auth_server), credentials, served, around, share_port=True)
    try:
        yield
    finally:
        await listener.drain(0)


@contextmanager
def a_kept_address() -> Iterator[str]:
    """Where `auth_knowing` will listen."""
    with socket.socket() as kept:  # nobody else gets the port, though the auth role is not up all the time
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{kept.getsockname()[1]}"


@pytest.fixture
def auth_server() -> Iterator[str]:
    with a_kept_address() as address:
        yield address


@pytest.fixture
def nodes(cluster: Cluster, auth_server: str) -> tuple[str, str]:
    for name in ("a", "b"):
        cluster.node(name, auth_server=auth_server, scrub_poll_seconds=0.05)
    return "a", "b"


async def lose_the_catalogue(cluster: Cluster, tables: str = _TABLES) -> None:
    """In a thread: nodes of this loop may be in the middle of a transaction, which it waits for."""

    def lose() -> bool:
        with psycopg.connect(cluster.database.owner) as owner:
            try:
                owner.execute(f"truncate {tables} cascade")
            except psycopg.errors.DeadlockDetected:  # with a node that asked for the tables in another order
                owner.rollback()
                return False
            return True

    while not await asyncio.to_thread(lose):
        pass


async def rescan(cluster: Cluster, *nodes: str) -> list[rescans_pb2.RescanResponse]:
    """The last that each says."""
    answers = []
    for node in nodes:
        async with cluster.internal(node) as channel:
            stub = rescans_pb2_grpc.RescanServiceStub(channel)
            told = [one async for one in stub.Rescan(rescans_pb2.RescanRequest())]
        assert [one.done for one in told] == [False] * (len(told) - 1) + [True]
        answers.append(told[-1])
    return answers


def catalogue(cluster: Cluster) -> tuple[object, ...]:
    return (
        cluster.sql("select id, tenant_id, user_id, copies, ack_copies, objects, bytes from buckets order by id"),
        cluster.sql("select bucket_id, node_id from homes order by 1, 2"),
        cluster.sql("select bucket_id, kind, sha256, size, state from objects order by 1, 2, 3"),
    )


async def test_a_lost_catalogue_comes_back_from_the_disks_of_all_nodes(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    async with cluster.up(*nodes):
        vaults = [await cluster.bucket("a", copies=2) for _ in range(2)]
        names = []
        for claims in vaults:
            async with cluster.client("a", claims) as client:
                names.append(await a_committed_snapshot(client))
        await copies_are_complete(cluster, "a")
    before, files = catalogue(cluster), cluster.files("a")
    await lose_the_catalogue(cluster)
    async with cluster.up(*nodes), auth_knowing(cluster, *vaults):
        assert cluster.sql("select count(*) from buckets") == [(0,)]
        a, b = await rescan(cluster, *nodes)
        assert (a.buckets, a.homes, a.objects, b.homes, b.objects) == (2, 2, 12, 2, 0)
        assert catalogue(cluster) == before
        await copies_are_complete(cluster, "a")
        for claims, (made, listed, committed) in zip(vaults, names, strict=True):
            async with cluster.client("b", claims) as client:
                session = await client.open(Purpose.BACKUP, committed)
                assert await client.names(session, ObjectKind.INDEX) == {str(listed)}
                assert pack(await client.get(session, made)) == made
                # It goes on: a whole backup, on top of what there was.
                assert await client.reserve(session, made) == []
                await client.put_index(session, [made, await client.put_pack(session, a_body())])
                await client.commit(session, a_body())
        assert {one.damaged for one in (await scrubbed(cluster, "a")).values()} == {0}
        # Once more changes nothing.
        again = catalogue(cluster)
        assert [one.objects for one in await rescan(cluster, *nodes)] == [0, 0]
        assert catalogue(cluster) == again
    assert set(files) <= set(cluster.files("a"))


async def test_in_a_catalogue_that_was_made_anew_no_session_goes_on_and_nothing_is_called_missing(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    """What runs when the catalogue is lost must not take what it had stored for lost too."""
    async with cluster.up(*nodes):
        claims = replace(await cluster.bucket("a", copies=2), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            made, listed, committed = await a_committed_snapshot(client)
            backup, retention = await client.open(Purpose.BACKUP, committed), await client.open(Purpose.RETENTION)
    await lose_the_catalogue(cluster)
    async with cluster.up(*nodes), cluster.client("a", claims) as client:
        calls = (
            client.beat(backup),
            client.get(backup, made),
            client.reserve(backup, made),
            client.put(backup, made, b""),
            client.put_pack(backup, a_body()),
            client.put_index(backup, [made]),
            client.commit(backup, a_body()),
            client.initialise(backup),
            client.remove(retention, committed),
            client.condemn(retention, listed),
            client.end(retention),
        )
        assert [await refusal_of(call) for call in calls] == ["SESSION_OVER"] * len(calls)


async def test_a_bucket_that_is_spread_over_the_disks_of_a_node_comes_back(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    settings = cluster.settings.pop("a")
    first, second = cluster.folder / "a", cluster.folder / "a-2"
    cluster.node("a", auth_server=str(settings.auth_server), data_dirs=[first, second])
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            names = await a_committed_snapshot(client)
        await copies_are_complete(cluster, "a")
    before = catalogue(cluster)
    first, second = (disk / "buckets" / str(claims.bucket) for disk in cluster.settings["a"].data_dirs)
    if not first.exists():  # the other one was roomier
        first, second = second, first
    shutil.move(first / "data", second / "data")
    shutil.copy(first / "config", second / "config")  # as a node leaves it that is killed before it removes the old one
    await lose_the_catalogue(cluster)
    async with cluster.up(*nodes), auth_knowing(cluster, claims):
        a, _ = await rescan(cluster, *nodes)
        assert (a.objects, a.foreign) == (6, 0)
        assert catalogue(cluster) == before
        await copies_are_complete(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.BACKUP, names[-1])
            for name in names:
                assert await client.get(session, name)
        assert {one.damaged for one in (await scrubbed(cluster, "a")).values()} == {0}


async def test_what_only_one_home_has_is_fetched_by_the_other(cluster: Cluster, nodes: tuple[str, str]) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            names = [await client.put_pack(session, a_body()) for _ in range(3)]
        await copies_are_complete(cluster, "a")
    await lose_the_catalogue(cluster)
    place_of(cluster, "a", claims.bucket, names[0]).unlink()
    place_of(cluster, "b", claims.bucket, names[1]).unlink()
    async with cluster.up(*nodes), auth_knowing(cluster, claims):
        await rescan(cluster, *nodes)
        await copies_are_complete(cluster, "a")
        for node in nodes:
            assert all(place_of(cluster, node, claims.bucket, name).exists() for name in names)


async def test_files_that_are_not_what_their_names_say_neither_stay_nor_hide_whole_ones(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    bodies = [a_body(2000) for _ in range(2)]
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            names = [await client.put_pack(session, body) for body in bodies]
        await copies_are_complete(cluster, "a")
    await lose_the_catalogue(cluster)
    place_of(cluster, "a", claims.bucket, names[0]).write_bytes(bodies[0][:500])
    for node in nodes:
        place_of(cluster, node, claims.bucket, names[1]).write_bytes(bodies[1][:700])
    async with cluster.up(*nodes), auth_knowing(cluster, claims):
        await rescan(cluster, *nodes)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await client.get(session, names[0]) == bodies[0]
            # Cut everywhere: scrubbing finds that out, and whoever has it stores it again.
            await scrubbed(cluster, "a")
            async with asyncio.timeout(60):
                while await client.reserve(session, *names) != [str(names[1])]:  # noqa: ASYNC110 - it is nodes that find out
                    await asyncio.sleep(0.05)
            await client.put(session, names[1], bodies[1])
            await copies_are_complete(cluster, "a")
            assert await client.get(session, names[1]) == bodies[1]
        for name, body in zip(names, bodies, strict=True):
            assert {place_of(cluster, node, claims.bucket, name).read_bytes() for node in nodes} == {body}
        assert cluster.sql("select bytes from buckets") == cluster.sql("select sum(size)::bigint from objects")


async def test_of_two_seals_the_one_that_was_written_last_counts(cluster: Cluster, nodes: tuple[str, str]) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            await client.initialise(await client.open(), seal=b"seal 1")
        await copies_are_complete(cluster, "a")
    for changed in nodes:
        await lose_the_catalogue(cluster)
        for node in nodes:
            place = place_of(cluster, node, claims.bucket, SEAL)
            place.write_bytes(f"new {changed}".encode() if node == changed else b"older")
            when = 2_000_000 if node == changed else 1_000_000
            os.utime(place, (when, when))
        async with cluster.up(*nodes), auth_knowing(cluster, claims):
            await rescan(cluster, *nodes)
            await copies_are_complete(cluster, "a")
            seals = {place_of(cluster, node, claims.bucket, SEAL).read_bytes() for node in nodes}
            assert seals == {f"new {changed}".encode()}


@pytest.mark.usefixtures("nodes")
async def test_no_bucket_is_locked_while_a_file_of_it_is_read(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = Disks.hash
    hashed: list[ObjectName] = []

    def looking(disks: Disks, bucket: UUID, name: ObjectName, *given: Any, **named: Any) -> bytes | None:
        with psycopg.connect(cluster.database.worker) as other:
            other.execute("select from buckets where id = %s for update nowait", (bucket,))
        hashed.append(name)
        return hashes(disks, bucket, name, *given, **named)

    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            await client.initialise(await client.open())
            name = await client.put_pack(await client.open(), b"body")
        for changed in (SEAL, name):
            place = place_of(cluster, "a", claims.bucket, changed)
            place.write_bytes(b"another")
            os.utime(place, (1 << 33, 1 << 33))
        monkeypatch.setattr(Disks, "hash", looking)
        async with auth_knowing(cluster, claims):
            await rescan(cluster, "a")
    assert set(hashed) == {SEAL, name}


async def test_a_seal_that_a_node_has_missed_is_not_undone_by_the_one_that_it_has(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            await client.initialise(await client.open(), seal=b"seal 3")
        await copies_are_complete(cluster, "a")
        # As after a second seal that both had, and a third that came while node b was down.
        await cluster.change(
            "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id, retry_at) select id, 'b',"
            " bucket_id, tenant_id, user_id, now() + interval '1 day' from objects where kind = 'oort-vault'"
        )
        place = place_of(cluster, "b", claims.bucket, SEAL)
        place.write_bytes(b"seal 2")
        os.utime(place, (1 << 33, 1 << 33))
        async with auth_knowing(cluster, claims):
            await rescan(cluster, "b")
        await cluster.change("update missing_copies set retry_at = now()")
        await copies_are_complete(cluster, "a")
        assert {place_of(cluster, node, claims.bucket, SEAL).read_bytes() for node in nodes} == {b"seal 3"}


@pytest.mark.usefixtures("nodes")
async def test_folders_of_nobodys_and_foreign_files_are_told_and_left_alone(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims, nobodys = await cluster.bucket("a"), await cluster.bucket("a")
        for one in (claims, nobodys):
            async with cluster.client("a", one) as client:
                await a_committed_snapshot(client)
    await lose_the_catalogue(cluster)
    top = cluster.bucket_folder("a", claims.bucket)
    (top / "data" / "notes").write_bytes(b"of a person")
    (top / "keys" / "a.key").write_bytes(b"of a person")
    wrong = top / "data" / "00" / ("ff" * 32)
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_bytes(b"where it does not belong")
    (top.parent / "lost+found").mkdir()
    files = cluster.files("a")
    async with cluster.up("a"), auth_knowing(cluster, claims):
        (found,) = await rescan(cluster, "a")
        assert (found.buckets, found.foreign, list(found.unknown)) == (1, 3, [str(nobodys.bucket)])
        assert cluster.sql("select id, copies, seq >= %s from buckets", 1 << 32) == [(claims.bucket, 2, True)]
    assert cluster.files("a") == files


@pytest.mark.usefixtures("nodes")
async def test_a_bucket_whose_adoption_is_not_finished_is_left_to_that(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        await cluster.change("update buckets set adopting = true")
        body = a_body()
        path = cluster.bucket_folder("a", claims.bucket) / pack(body).path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        async with auth_knowing(cluster, claims):
            (found,) = await rescan(cluster, "a")
            assert (found.objects, len(found.failed)) == (0, 1)
            assert "oort bucket adopt" in found.failed[0]
            await cluster.change("update buckets set adopting = false")
            (found,) = await rescan(cluster, "a")
            assert (found.objects, list(found.failed)) == (1, [])


@pytest.mark.usefixtures("nodes")
async def test_a_body_that_was_durable_and_not_yet_placed_is_an_object_again(cluster: Cluster) -> None:
    body, torn = a_body(), a_body()
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
    await lose_the_catalogue(cluster)
    folder = cluster.settings["a"].data_dirs[0] / "incoming" / str(claims.bucket)

    def stage(content: bytes, written: bytes) -> Path:
        name = pack(content)
        path = folder / StagedName(claims.bucket, uuid4(), name, bytes.fromhex(name.id)).file_name("0" * 8)
        path.write_bytes(written)
        return path

    whole, broken = stage(body, body), stage(torn, torn[:10])
    async with cluster.up("a"), auth_knowing(cluster, claims):
        assert whole.exists(), "nobody throws away what a lost catalogue may have known"
        await rescan(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await client.get(session, pack(body)) == body
            assert await refusal_of(client.get(session, pack(torn))) == "NOT_FOUND"
    async with cluster.up("a"):
        assert not broken.exists()


async def test_running_backups_are_not_disturbed(cluster: Cluster, nodes: tuple[str, str]) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with auth_knowing(cluster, claims), cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            scanning = asyncio.gather(*(rescan(cluster, *nodes) for _ in range(3)))
            names = [await client.put_pack(session, a_body()) for _ in range(20)]
            await scanning
            await client.put_index(session, names)
            await client.commit(session, a_body())
        await copies_are_complete(cluster, "a")
        (count,) = cluster.sql("select objects from buckets")[0]
        assert cluster.sql("select count(*) from objects") == [(count,)]


async def test_without_auth_nothing_is_entered(cluster: Cluster, nodes: tuple[str, str]) -> None:
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            await a_committed_snapshot(client)
        await lose_the_catalogue(cluster)
        assert await refusal_of(rescan(cluster, "a")) == "UNAVAILABLE"
        assert cluster.sql("select count(*) from buckets") == [(0,)]
        async with cluster.internal("a", "auth") as channel:
            stub = rescans_pb2_grpc.RescanServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Rescan(rescans_pb2.RescanRequest()).read()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
