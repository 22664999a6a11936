"""Incoming files that resist: they keep neither a node from starting nor the others from their places."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import copies_pb2, copies_pb2_grpc, objects_pb2

from domain.names import ObjectName
from services.common.errors import Busy
from services.common.testing.server import reason_of
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.tests.test_copies import copies_are_complete


def staged(cluster: Cluster, node: str, bucket: UUID, name: ObjectName, nonce: str = "01") -> Path:
    """Take the copy of a node back out of its place, as if the node had been killed before it placed it."""
    folder = cluster.settings[node].data_dirs[0] / "incoming" / str(bucket)
    place = cluster.bucket_folder(node, bucket) / name.path
    return place.rename(folder / f"{UUID(int=1)}.data.{name.id}.{nonce}")


async def test_a_node_starts_and_places_the_others_when_one_incoming_file_cannot_be_placed(cluster: Cluster) -> None:
    bodies = [a_body() for _ in range(4)]
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, body) for body in bodies]
    for name in names:
        staged(cluster, "a", claims.bucket, name)
    # Where it belongs there is something that no file can take the place of.
    resisting = cluster.bucket_folder("a", claims.bucket) / names[1].path
    resisting.mkdir(parents=True)
    (resisting / "something").touch()
    incoming = cluster.settings["a"].data_dirs[0] / "incoming"
    (incoming / "lost+found").mkdir()
    (incoming / "a file of somebody's").touch()
    (incoming / str(claims.bucket) / "notes.txt").touch()
    (incoming / str(claims.bucket) / f"{UUID(int=1)}.data.{names[0].id}.02.part").mkdir()
    async with cluster.up("a"), cluster.client("a", claims) as client:
        assert (await cluster.describe("a")).missing_copies == 1
        for name, body in zip(names, bodies, strict=True):
            if name != names[1]:
                assert await client.get(session, name) == body
        shutil.rmtree(resisting)
        await copies_are_complete(cluster, "a")
        assert await client.get(session, names[1]) == bodies[1]


async def test_a_bucket_folder_that_is_gone_is_made_again_for_an_incoming_file(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            staged(cluster, "a", claims.bucket, name)
            shutil.rmtree(cluster.bucket_folder("a", claims.bucket))
    async with cluster.up("a"), cluster.client("a", claims) as client:
        assert await client.get(session, name) == b"body"
        shutil.rmtree(cluster.bucket_folder("a", claims.bucket))
        # The node does not trust its memory of having made the folder.
        assert await client.get(session, await client.put_pack(session, b"even more")) == b"even more"


async def test_a_copy_that_cannot_be_placed_is_entered_as_missing_and_healed(cluster: Cluster) -> None:
    body = a_body()
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, b"so that the folder is there")
            place = cluster.bucket_folder("b", claims.bucket) / pack(body).path
            place.mkdir(parents=True)
            (place / "something").touch()
            await client.put(session, pack(body), body)
            described = await cluster.describe("a")
            assert (described.missing_copies, described.copies_complete) == (1, False)
            shutil.rmtree(place)
            await copies_are_complete(cluster, "a")
            assert place.read_bytes() == body


async def _refusal(call: Callable[[], Awaitable[object]]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call()
    return reason_of(refusal.value), str(refusal.value.details())


@pytest.mark.parametrize("digest", [b"", b"short", bytes(32), bytes(33)])
async def test_a_copy_whose_digest_is_not_that_of_its_name_is_refused(cluster: Cluster, digest: bytes) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        header = copies_pb2.CopyHeader(
            bucket_id=str(claims.bucket), name=str(pack(b"body")), size=4, sha256=digest, session_id=str(UUID(int=1))
        )
        async with cluster.internal("a", "storage", "b") as channel:
            call = copies_pb2_grpc.CopyServiceStub(channel).PutCopy(iter([copies_pb2.PutCopyRequest(header=header)]))
            reason, detail = await _refusal(call.read)
        assert reason == "INVALID_ARGUMENT"
        assert "sha256" in detail
    assert cluster.files("a") == []


async def test_a_whole_copy_whose_sender_and_whose_catalogue_are_away_waits(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_body()
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        header = copies_pb2.CopyHeader(
            bucket_id=str(claims.bucket),
            name=str(pack(body)),
            size=len(body),
            sha256=bytes.fromhex(pack(body).id),
            session_id=str(UUID(int=1)),
        )
        requests = [
            copies_pb2.PutCopyRequest(header=header),
            copies_pb2.PutCopyRequest(frame=body),
            copies_pb2.PutCopyRequest(complete=True),
        ]
        monkeypatch.setattr(Incoming, "settle", _away)
        async with cluster.internal("a", "storage", "b") as channel:
            call = copies_pb2_grpc.CopyServiceStub(channel).PutCopy(iter(requests))
            assert await call.read() == copies_pb2.PutCopyResponse(ready=True)
            assert await call.read() == copies_pb2.PutCopyResponse(staged=True)
            reason, detail = await _refusal(call.read)
    # What it is told is why the call ended, and not that nobody could be asked then.
    assert (reason, detail) == ("INVALID_ARGUMENT", "The copy ended early.")
    [waiting] = cluster.files("a")
    assert pack(body).id in waiting


async def _away(*_: object) -> int:
    raise Busy(what="The database")


async def test_a_frame_that_is_too_large_is_refused(cluster: Cluster) -> None:
    body = a_body((2 << 20) + 1)
    header = objects_pb2.PutHeader(name=str(pack(body)), size=len(body))
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            header.session_id = str(await client.open())
            requests = [objects_pb2.PutRequest(header=header), objects_pb2.PutRequest(frame=body)]

            async def put() -> object:
                return await client.objects.Put(iter(requests), metadata=client.metadata)

            reason, detail = await _refusal(put)
        assert reason == "INVALID_ARGUMENT"
        assert "frame" in detail
    assert cluster.files("a") == []
