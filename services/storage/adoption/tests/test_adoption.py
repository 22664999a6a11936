"""Files copied by hand into a node's folders: entered by that node, brought to the other homes, refused to others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import adoptions_pb2, adoptions_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, a_body, a_session_id, index, pack, snapshot, start_node
from services.storage.tests.test_operator import Metadata, named
from services.storage.transfer.patience import Patience
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.tests.moving import a_bucket_on, homes_of
from services.storage.upkeep.tests.test_rescan import lose_the_catalogue
from services.storage.upkeep.tests.test_scrub import scrubbed

KINDS = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)


@dataclass
class Adoption:
    """An operator's, in one session."""

    cluster: Cluster
    metadata: Metadata
    session: str

    async def adopt(self, node: str, kind: str, **others: str) -> list[adoptions_pb2.AdoptResponse]:
        request = adoptions_pb2.AdoptRequest(session_id=self.session, kind=kind, **others)
        async with self.cluster.internal(node) as channel:
            stub = adoptions_pb2_grpc.AdoptionServiceStub(channel)
            return [one async for one in stub.Adopt(request, metadata=self.metadata)]

    async def finish(self) -> bool:
        """As the command does when nothing was left out."""
        async with self.cluster.internal("a") as channel:
            stub = adoptions_pb2_grpc.AdoptionServiceStub(channel)
            request = adoptions_pb2.FinishAdoptionRequest(session_id=self.session)
            return (await stub.Finish(request, metadata=self.metadata)).finished

    async def all_of(self, node: str) -> tuple[int, list[adoptions_pb2.LeftOut]]:
        """How many objects were entered, and what was left out."""
        entered, left = 0, []
        for kind in KINDS:
            answers = await self.adopt(node, kind)
            assert [one.done for one in answers] == [False] * (len(answers) - 1) + [True]
            entered += answers[-1].objects
            left += [one for answer in answers for one in answer.left_out]
        return entered, left


@asynccontextmanager
async def adopting(
    cluster: Cluster, claims: VaultClaims, purpose: Purpose = Purpose.ADOPT, *, ends: bool = True
) -> AsyncIterator[Adoption]:
    session, metadata = str(a_session_id()), named(claims)
    async with cluster.internal("a") as channel:
        stub = sessions_pb2_grpc.SessionServiceStub(channel)
        await stub.Open(sessions_pb2.OpenRequest(session_id=session, purpose=purpose), metadata=metadata)
        yield Adoption(cluster, metadata, session)
        if ends:
            await stub.End(sessions_pb2.EndRequest(session_id=session), metadata=metadata)


def copy_by_hand(folder: Path, *bodies: tuple[ObjectName, bytes]) -> None:
    for name, body in bodies:
        place = folder / name.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)


def some_files() -> list[tuple[ObjectName, bytes]]:
    bodies = [a_body(3 << 20), a_body(), a_body(), a_body()]
    names = [pack(bodies[0]), pack(bodies[1]), index(bodies[2]), snapshot(bodies[3])]
    return list(zip(names, bodies, strict=True))


async def a_vault(cluster: Cluster, *nodes: str) -> VaultClaims:
    claims = await a_bucket_on(cluster, *nodes)
    async with cluster.client("a", claims) as client:
        await a_committed_snapshot(client)
    return claims


async def test_what_one_home_has_comes_to_the_others_and_is_read_there(cluster: Cluster) -> None:
    files = some_files()
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, "a", "b")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        async with adopting(cluster, claims) as adoption:
            assert await adoption.all_of("a") == (4, [])
            assert await adoption.all_of("b") == (0, [])
        await copies_are_complete(cluster, "a")
        async with cluster.client("b", claims) as client:
            session = await client.open(Purpose.READ)
            for name, body in files:
                assert await client.get(session, name) == body
    for name, body in files:
        assert (cluster.bucket_folder("b", claims.bucket) / name.path).read_bytes() == body


async def test_what_is_entered_takes_its_turn_among_those_of_its_bucket(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[UUID | None] = []
    enter = Patience.enter

    async def noted(self: Patience, tenant: UUID, entry: Any, bucket: UUID | None = None) -> Any:
        turns.append(bucket)
        return await enter(self, tenant, entry, bucket)

    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *some_files())
        monkeypatch.setattr(Patience, "enter", noted)
        async with adopting(cluster, claims) as adoption:
            await adoption.all_of("a")
    assert turns == [claims.bucket] * 4


async def test_what_was_copied_to_every_home_is_not_sent_once_more(cluster: Cluster) -> None:
    files = some_files()
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, "a", "b")
        folders = [cluster.bucket_folder(node, claims.bucket) for node in ("a", "b")]
        for folder in folders:
            copy_by_hand(folder, *files)
        inodes = [(folders[1] / name.path).stat().st_ino for name, _ in files]
        async with adopting(cluster, claims) as adoption:
            assert await adoption.all_of("a") == (4, [])
            assert await adoption.all_of("b") == (0, [])
        await copies_are_complete(cluster, "a")
        assert [(folders[1] / name.path).stat().st_ino for name, _ in files] == inodes


async def test_a_whole_copy_takes_the_place_of_a_bad_one_on_another_home(cluster: Cluster) -> None:
    [(name, body), *_] = some_files()
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, "a", "b")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), (name, b"x" + body[1:]))
        copy_by_hand(cluster.bucket_folder("b", claims.bucket), (name, body))
        async with adopting(cluster, claims) as adoption:
            entered, [left] = await adoption.all_of("a")
            assert (entered, left.name, left.passing) == (0, str(name), False)
            assert await adoption.all_of("b") == (1, [])
        await copies_are_complete(cluster, "a")
    assert (cluster.bucket_folder("a", claims.bucket) / name.path).read_bytes() == body


async def test_nothing_that_a_node_does_by_itself_takes_away_what_waits_to_be_adopted(cluster: Cluster) -> None:
    files = some_files()
    for name in ("a", "b"):
        cluster.node(name, scrub_poll_seconds=0.05, reap_seconds=0.05, basket_days=0, reconcile_hours=0.00001)
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, "a", "b")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        await scrubbed(cluster, "a", claims.bucket)
    async with cluster.up("a", "b"):  # what a start settles
        await copies_are_complete(cluster, "a")
        assert all((cluster.bucket_folder("a", claims.bucket) / name.path).exists() for name, _ in files)
        async with adopting(cluster, claims) as adoption:
            assert await adoption.all_of("a") == (4, [])


async def test_two_adoptions_at_once_enter_each_file_once(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        files = [(pack(body), body) for body in (a_body() for _ in range(30))]
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        async with adopting(cluster, claims) as one, adopting(cluster, claims) as other:
            told: Sequence[list[adoptions_pb2.AdoptResponse]] = await asyncio.gather(
                one.adopt("a", "data"), other.adopt("a", "data")
            )
        assert sum(answers[-1].objects for answers in told) == len(files)
        [(objects, size)] = cluster.sql("select objects, bytes from buckets where id = %s", claims.bucket)
        [(rows, total)] = cluster.sql(
            "select count(*), sum(size)::bigint from objects where bucket_id = %s", claims.bucket
        )
        assert (objects, size) == (rows, total)


async def test_what_is_withheld_is_named_and_not_read(cluster: Cluster) -> None:
    [(name, _), *_] = some_files()
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), (name, b"anything"))
        async with adopting(cluster, claims) as adoption:
            answers = await adoption.adopt("a", "data", withheld="not now")
        assert [(one.name, one.reason) for answer in answers for one in answer.left_out] == [(str(name), "not now")]


async def test_it_is_refused_to_whoever_has_no_adoption_and_on_a_node_that_is_no_home(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, "a")
        async with adopting(cluster, claims) as adoption:
            assert await refusal_of(adoption.adopt("a", "keys")) == "INVALID_ARGUMENT"
            assert homes_of(cluster, claims) == {"a"}
            assert await refusal_of(adoption.adopt("b", "data")) == "UNAVAILABLE"
            for role in ("auth", "storage"):
                async with cluster.internal("a", role, "one") as channel:
                    stub = adoptions_pb2_grpc.AdoptionServiceStub(channel)
                    roots = stub.ReadRoots(
                        adoptions_pb2.ReadRootsRequest(session_id=adoption.session), metadata=adoption.metadata
                    )
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await roots.read()
                    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await refusal_of(adoption.adopt("a", "data")) == "SESSION_OVER"
        for purpose in (Purpose.READ, Purpose.BACKUP):
            async with adopting(cluster, claims, purpose) as session:
                assert await refusal_of(session.adopt("a", "data")) == "NOT_ALLOWED"


async def test_an_adoption_whose_catalogue_is_lost_meanwhile_is_over(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        async with adopting(cluster, claims, ends=False) as adoption:
            await lose_the_catalogue(cluster)
            assert await refusal_of(adoption.adopt("a", "data")) == "SESSION_OVER"
            assert await refusal_of(adoption.finish()) == "SESSION_OVER"


async def test_a_vault_that_was_not_begun_takes_nothing(cluster: Cluster) -> None:
    files = some_files()
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        async with adopting(cluster, claims) as adoption:
            assert await refusal_of(adoption.adopt("a", "data")) == "NOT_INITIALISED"


async def test_a_node_that_is_killed_goes_on_with_what_is_left(cluster: Cluster) -> None:
    files = [(pack(body), body) for body in (a_body() for _ in range(20))]
    cluster.node("a", scrub_bytes_per_second=1000)
    node = await start_node(cluster, "a")
    try:
        claims = await a_vault(cluster, "a")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *files)
        async with adopting(cluster, claims, ends=False) as adoption, cluster.internal("a") as channel:
            request = adoptions_pb2.AdoptRequest(session_id=adoption.session, kind="data")
            answers = adoptions_pb2_grpc.AdoptionServiceStub(channel).Adopt(request, metadata=adoption.metadata)
            async for answer in answers:
                if answer.objects:
                    break
            await node.kill()
        entered = await packs_of(cluster, claims) - 1
        assert entered > 0
        cluster.settings["a"] = cluster.settings["a"].model_copy(update={"scrub_bytes_per_second": 1 << 30})
        node = await start_node(cluster, "a")
        async with adopting(cluster, claims) as adoption:
            last = (await adoption.adopt("a", "data"))[-1]
        assert (last.objects, last.known) == (len(files) - entered, entered + 1)
        assert await packs_of(cluster, claims) == len(files) + 1
    finally:
        await node.stop()


async def packs_of(cluster: Cluster, claims: VaultClaims) -> int:
    """When no transaction of a node that was killed is under way any more."""
    await cluster.change("select 1 from buckets where id = %s for update", claims.bucket)
    [(count,)] = cluster.sql("select count(*) from objects where bucket_id = %s and kind = 'data'", claims.bucket)
    return int(count)


async def test_what_lies_beside_the_folders_is_named_and_what_rsync_has_begun_is_waited_for(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        folder = cluster.bucket_folder("a", claims.bucket)
        copy_by_hand(folder / "repo", *some_files())
        for begun in ("data/ab/.rsync-partial", "data/.~tmp~", "index/.~tmp~"):
            (folder / begun).mkdir(parents=True)
            (folder / begun / ("ab" * 32)).write_bytes(b"half")
        async with adopting(cluster, claims) as adoption:
            entered, left = await adoption.all_of("a")
        assert entered == 0
        assert {one.name: one.passing for one in left} == {
            "repo": False,
            "data/ab/.rsync-partial": True,
            f"data/.~tmp~/{'ab' * 32}": True,
            "index/.~tmp~": True,
        }


async def test_nothing_is_adopted_while_a_node_of_an_earlier_version_runs(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        copy_by_hand(cluster.bucket_folder("a", claims.bucket), *some_files())
        await cluster.change(
            "insert into nodes (id, public_endpoint, internal_endpoint, free_bytes, last_seen, catalogue)"
            " values ('old', '', '', 0, now(), 12)"
        )
        async with adopting(cluster, claims) as adoption:
            with pytest.raises(grpc.aio.AioRpcError, match="earlier version"):
                await adoption.adopt("a", ObjectKind.PACK)
        assert cluster.sql("select adopting from buckets where id = %s", claims.bucket) == [(False,)]
