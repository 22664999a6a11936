"""Putting and reading objects through one node."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from oort.storage.v1 import objects_pb2

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose
from services.common.testing.server import reason_of
from services.storage.errors import BucketBusy, DiskFull
from services.storage.sessions import entries
from services.storage.tests.cluster import OWN_FILES, Cluster, a_body, a_session_id, index, pack
from services.storage.volumes.disk import Disk
from services.storage.volumes.staging import StagedName


async def test_a_put_object_is_read_back_and_lies_where_restic_looks(cluster: Cluster) -> None:
    body = a_body(3_500_000)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            answer = await client.put(session, pack(body), body)
            assert (answer.existed, answer.copies) == (False, 1)
            assert await client.get(session, pack(body)) == body
            assert await client.get(session, pack(body), 1_048_000, 1000) == body[1_048_000:1_049_000]
            assert await client.get(session, pack(body), len(body)) == b""
            [listed] = await client.list(session, ObjectKind.PACK)
            assert (listed.name, listed.size) == (str(pack(body)), len(body))
    folder = cluster.bucket_folder("a", claims.bucket)
    place = folder / pack(body).path
    assert place.read_bytes() == body
    assert place.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o700}
    assert [path.name for path in (folder / "data").iterdir()] == [place.parent.name]
    assert {path.name for path in folder.iterdir()} == {"data", "index", "keys", "locks", "snapshots"}
    assert cluster.files("a") == [f"buckets/{claims.bucket}/{pack(body).path}"]


async def test_an_empty_body_is_an_object_too(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, b"")
            assert await client.get(session, pack(b"")) == b""


async def test_a_name_that_exists_waits_for_its_bucket_as_a_body_does(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.transfer.patience._PAUSE_SECONDS", 0)
    put_again, busy = entries.put_again, [BucketBusy()]

    async def busy_at_first(*given: Any) -> None:
        if busy:
            raise busy.pop()
        await put_again(*given)

    monkeypatch.setattr(entries, "put_again", busy_at_first)
    async with cluster.up("a"):
        claims, body = await cluster.bucket("a"), a_body()
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, body)
            assert (await client.put(session, pack(body), body)).existed
    assert not busy


async def test_a_name_that_exists_is_answered_before_its_body_has_come(cluster: Cluster) -> None:
    body = a_body()
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, body)
            header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(body)), size=len(body))

            async def header_only() -> AsyncIterator[objects_pb2.PutRequest]:
                yield objects_pb2.PutRequest(header=header)
                await asyncio.Event().wait()

            answer = await client.objects.Put(header_only(), metadata=client.metadata, timeout=60)
            assert answer.existed


@pytest.mark.parametrize(("sent", "announced"), [(b"another body", 12), (b"body", 5), (b"body and more", 4), (b"", 4)])
async def test_a_put_whose_body_is_not_what_its_name_says_is_refused(
    cluster: Cluster, sent: bytes, announced: int
) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.put(session, pack(b"body"), sent, size=announced)
            assert reason_of(refusal.value) == "NAME_MISMATCH"
            assert await client.list(session, ObjectKind.PACK) == []
    assert cluster.files("a") == []


@pytest.mark.parametrize(
    "name", ["config", "oort-vault", f"snapshots/{'0' * 64}", f"locks/{'0' * 64}", "data/../x", ""]
)
async def test_only_packs_index_files_and_keys_are_put(cluster: Cluster, name: str) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            header = objects_pb2.PutHeader(session_id=str(await client.open()), name=name, size=0)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.objects.Put(iter([objects_pb2.PutRequest(header=header)]), metadata=client.metadata)
            assert reason_of(refusal.value) == "INVALID_ARGUMENT"


async def test_a_client_that_goes_away_in_the_middle_leaves_no_file(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            half_sent = asyncio.Event()

            async def half() -> AsyncIterator[objects_pb2.PutRequest]:
                header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(body)), size=len(body))
                yield objects_pb2.PutRequest(header=header)
                yield objects_pb2.PutRequest(frame=body[: 1 << 20])
                half_sent.set()
                await asyncio.Event().wait()

            call = client.objects.Put(half(), metadata=client.metadata)
            await half_sent.wait()
            call.cancel()
            assert await client.put(session, pack(body), body)
        await _until(lambda: len(cluster.files("a")) == 1)
    assert cluster.files("a") == [f"buckets/{claims.bucket}/{pack(body).path}"]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - the file system tells nobody
            await asyncio.sleep(0.01)


async def test_a_client_that_stands_still_is_given_up(cluster: Cluster) -> None:
    cluster.node("a", stall_seconds=0.2)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()

            async def header_only() -> AsyncIterator[objects_pb2.PutRequest]:
                header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(b"body")), size=4)
                yield objects_pb2.PutRequest(header=header)
                await asyncio.Event().wait()

            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.objects.Put(header_only(), metadata=client.metadata)
            assert reason_of(refusal.value) == "STALLED"
    assert cluster.files("a") == []


async def test_more_streams_than_the_limit_are_told_to_try_again(cluster: Cluster) -> None:
    cluster.node("a", max_streams=1)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            begun, done = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncIterator[objects_pb2.PutRequest]:
                header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(b"body")), size=4)
                yield objects_pb2.PutRequest(header=header)
                begun.set()
                await done.wait()
                yield objects_pb2.PutRequest(frame=b"body")

            async def silent() -> AsyncIterator[objects_pb2.PutRequest]:
                """grpc.aio tells a refusal that meets a message on its way as an error of its own."""
                await done.wait()
                yield objects_pb2.PutRequest(frame=b"body")

            first = asyncio.ensure_future(client.objects.Put(slow(), metadata=client.metadata))
            await begun.wait()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.objects.Put(silent(), metadata=client.metadata)
            assert reason_of(refusal.value) == "TOO_BUSY"
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
            done.set()
            await first


async def test_initialising_stores_key_config_and_seal_once(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            made = await asyncio.gather(*(client.initialise(session, b"config %d" % number) for number in range(4)))
            assert sorted(made) == [False, False, False, True]
            config = b"config %d" % made.index(True)
            assert await client.get(session, CONFIG) == config
            assert await client.get(session, SEAL) == b"seal"
            [key] = await client.list(session, ObjectKind.KEY)
            assert await client.get(session, ObjectName.parse(key.name)) == b"key of " + config
            assert [(one.name, one.size) for one in await client.list(session, ObjectKind.CONFIG)] == [("config", 8)]
    folder = f"buckets/{claims.bucket}"
    assert cluster.files("a") == [f"{folder}/config", f"{folder}/{key.name}", f"{folder}/oort-vault"]
    assert (cluster.bucket_folder("a", claims.bucket) / "config").read_bytes() == config


async def test_what_does_not_fit_the_quota_is_refused_before_it_is_taken_and_when_it_is_entered(
    cluster: Cluster,
) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a", quota_bytes=2500)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, a_body(1000))
            header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(b"big")), size=1501)

            async def no_frame() -> AsyncIterator[objects_pb2.PutRequest]:
                yield objects_pb2.PutRequest(header=header)
                await asyncio.Event().wait()

            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.objects.Put(no_frame(), metadata=client.metadata)
            assert reason_of(refusal.value) == "QUOTA_EXCEEDED"
            # Three at once, of which one fits: each was let begin, and the entry decides.
            bodies = [a_body(1500) for _ in range(3)]
            results = await asyncio.gather(
                *(client.put(session, pack(body), body) for body in bodies), return_exceptions=True
            )
            refused = [reason_of(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
            assert refused == ["QUOTA_EXCEEDED"] * 2
        assert cluster.sql("select objects, bytes from buckets where id = %s", claims.bucket) == [(2, 2500)]
    assert len(cluster.files("a")) == 2


async def test_listing_in_pages_gives_every_object_once_and_by_name(cluster: Cluster) -> None:
    bodies = [b"%d" % number for number in range(25)]
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            for body in bodies:
                await client.put_pack(session, body)
            listed = await client.list(session, ObjectKind.PACK, page_size=7)
            assert [one.name for one in listed] == sorted(str(pack(body)) for body in bodies)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.objects.List(
                    objects_pb2.ListRequest(session_id=str(session), kind="data", page_token="nonsense"),
                    metadata=client.metadata,
                )
            assert reason_of(refusal.value) == "INVALID_ARGUMENT"


async def test_reading_outside_an_object_and_reading_what_is_not_there_are_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            for offset, length in ((5, 0), (2, 3)):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await client.get(session, name, offset, length)
                assert reason_of(refusal.value) == "INVALID_ARGUMENT"
            for absent in (pack(b"other"), CONFIG):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await client.get(session, absent)
                assert reason_of(refusal.value) == "NOT_FOUND"


async def test_a_file_without_a_catalogue_row_is_no_object(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.put_pack(session, b"body")
            name = pack(b"smuggled")
            place = cluster.bucket_folder("a", claims.bucket) / name.path
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"smuggled")
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.get(session, name)
            assert reason_of(refusal.value) == "NOT_FOUND"
            assert await client.names(session, ObjectKind.PACK) == {str(pack(b"body"))}
            # Put properly it replaces the file.
            assert not (await client.put(session, name, b"smuggled")).existed


async def test_a_cut_object_without_another_copy_is_damaged_and_the_next_put_heals_it(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"a whole body")
            place = cluster.bucket_folder("a", claims.bucket) / name.path
            place.write_bytes(b"a who")
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.get(session, name)
            assert reason_of(refusal.value) == "DAMAGED"
            assert (await cluster.describe("a")).missing_copies == 1
            assert await client.reserve(session, name) == [str(name)]
            answer = await client.put(session, name, b"a whole body")
            assert answer.existed
            assert await client.get(session, name) == b"a whole body"
            assert (await cluster.describe("a")).missing_copies == 0
            assert place.read_bytes() == b"a whole body"
            assert await client.reserve(session, name) == []


async def test_below_the_low_water_mark_nothing_is_stored_and_reads_go_on(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            await client.end(session)
    del cluster.settings["a"]
    cluster.node("a", low_water_bytes=1 << 60)
    async with cluster.up("a"), cluster.client("a", claims) as client:
        session = await client.open()
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.put_pack(session, b"more")
        assert reason_of(refusal.value) == "DISK_FULL"
        assert await client.get(session, name) == b"body"
    assert len(cluster.files("a")) == 1


def test_a_disk_that_fills_while_it_writes_leaves_nothing_behind(tmp_path: Path) -> None:
    def full(_handle: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk(tmp_path, "a", 0, write=full)
    name = pack(b"body")
    file = disk.stage(StagedName(uuid4(), uuid4(), name, bytes.fromhex(name.id)), 4)
    with pytest.raises(DiskFull):
        file.write(b"body")
    file.discard()
    disk.close()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == OWN_FILES


@pytest.mark.case(number=5)
@pytest.mark.parametrize("refused_by", ["end", "quota", "index"])
async def test_a_body_whose_entry_is_refused_leaves_no_file(cluster: Cluster, refused_by: str) -> None:
    body = a_body()
    name = index(body) if refused_by == "index" else pack(body)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            own = await client.put_pack(session, b"own")
            header = objects_pb2.PutHeader(
                session_id=str(session), name=str(name), size=len(body), packs=[str(own)] * (refused_by == "index")
            )
            begun, done = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncIterator[objects_pb2.PutRequest]:
                yield objects_pb2.PutRequest(header=header)
                yield objects_pb2.PutRequest(frame=body[:500])
                begun.set()
                await done.wait()
                yield objects_pb2.PutRequest(frame=body[500:])

            call = asyncio.ensure_future(client.objects.Put(slow(), metadata=client.metadata))
            await begun.wait()
            await _until(lambda: len(cluster.files("a")) == 2)
            if refused_by == "end":
                await client.end(session)
            elif refused_by == "quota":
                await cluster.change("update buckets set quota_bytes = 100 where id = %s", claims.bucket)
            else:
                await cluster.change("delete from object_users where session_id = %s", session)
            done.set()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call
            expected = {"end": "SESSION_OVER", "quota": "QUOTA_EXCEEDED", "index": "NOT_RESERVED"}
            assert reason_of(refusal.value) == expected[refused_by]
    assert cluster.files("a") == [f"buckets/{claims.bucket}/{own.path}"]


async def test_two_puts_of_one_name_at_once_both_succeed_and_one_body_lies_there(cluster: Cluster) -> None:
    body = a_body(2 << 20)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            answers = await asyncio.gather(*(client.put(session, pack(body), body) for _ in range(6)))
            assert sum(not answer.existed for answer in answers) == 1
            assert await client.get(session, pack(body)) == body
        assert cluster.sql("select objects, bytes from buckets where id = %s", claims.bucket) == [(1, len(body))]
    assert cluster.files("a") == [f"buckets/{claims.bucket}/{pack(body).path}"]


async def test_a_session_opened_to_read_writes_nothing(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.READ)
            for call in (
                client.put_pack(session, b"body"),
                client.reserve(session, pack(b"body")),
                client.commit(session, b"snapshot"),
                client.initialise(session),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call
                assert reason_of(refusal.value) == "NOT_ALLOWED"


async def test_a_call_in_a_session_that_the_node_does_not_know_is_told_that_it_is_over(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            never = a_session_id()
            for call in (client.put_pack(never, b"body"), client.beat(never), client.list(never, ObjectKind.PACK)):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call
                assert reason_of(refusal.value) == "SESSION_OVER"
