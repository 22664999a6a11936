"""Copies that were away, cut, altered or unreadable: what is there again counts again, and what is lost is told so."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from oort.storage.v1 import copies_pb2, copies_pb2_grpc

from domain.names import CONFIG, ObjectName
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store import copies
from services.storage.tests.cluster import Cluster, a_body
from services.storage.transfer.own import OwnCopies
from services.storage.transfer.tests.test_copies import copies_are_complete


def place_of(cluster: Cluster, node: str, bucket: UUID, name: ObjectName) -> Path:
    return cluster.bucket_folder(node, bucket) / name.path


def altered(body: bytes) -> bytes:
    """As long, and one bit off in the middle."""
    middle = len(body) // 2
    return body[:middle] + bytes((body[middle] ^ 1,)) + body[middle + 1 :]


@pytest.mark.parametrize("nodes", [("a",), ("a", "b")])
async def test_copies_that_were_all_away_for_a_while_are_read_again(cluster: Cluster, nodes: tuple[str, ...]) -> None:
    body = a_body(2 << 20)
    async with cluster.up(*nodes):
        claims = await cluster.bucket("a", copies=len(nodes))
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            places = [place_of(cluster, node, claims.bucket, name) for node in nodes]
            for place in places:
                place.rename(place.with_suffix(".away"))
            assert await refusal_of(client.get(session, name)) == "DAMAGED"
            assert (await cluster.describe("a")).missing_copies == len(nodes)
            assert await client.reserve(session, name) == [str(name)]
            for place in places:
                place.with_suffix(".away").rename(place)
            assert await client.get(session, name) == body
            await copies_are_complete(cluster, "a")
            assert await client.reserve(session, name) == []


async def test_while_a_disk_is_away_reads_are_to_be_tried_again_and_nothing_is_entered_as_missing(
    cluster: Cluster,
) -> None:
    body = a_body()
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        folders = [cluster.bucket_folder(node, claims.bucket) for node in ("a", "b")]
        async with cluster.client("a", claims) as client, cluster.client("b", claims) as other:
            session = await client.open()
            name = await client.put_pack(session, body)
            folders[0].rename(folders[0].with_suffix(".away"))
            assert await client.get(session, name) == body
            folders[1].rename(folders[1].with_suffix(".away"))
            for reader in (client, other):
                assert await refusal_of(reader.get(session, name)) == "UNAVAILABLE"
            assert (await cluster.describe("a")).missing_copies == 0
            for folder in folders:
                folder.with_suffix(".away").rename(folder)
            for reader in (client, other):
                assert await reader.get(session, name) == body


async def test_a_copy_that_cannot_be_opened_is_answered_from_the_other_home(cluster: Cluster) -> None:
    body = a_body()
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            place = place_of(cluster, "a", claims.bucket, name)
            place.unlink()
            # Opening it fails with ELOOP, for root as well.
            place.symlink_to(place)
            assert await client.get(session, name) == body
            await copies_are_complete(cluster, "a")
            assert place.read_bytes() == body
            assert not place.is_symlink()


@pytest.mark.parametrize("size", [1000, 5 << 20])
async def test_an_altered_copy_is_found_by_whoever_reads_the_whole_object(cluster: Cluster, size: int) -> None:
    body = a_body(size)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            place = place_of(cluster, "a", claims.bucket, name)
            place.write_bytes(altered(body))
            if size <= 1 << 20:
                # Nothing of it was sent yet, so the other home answers.
                assert await client.get(session, name) == body
            else:
                assert await refusal_of(client.get(session, name)) == "DAMAGED"
                assert await client.get(session, name) == body
            await copies_are_complete(cluster, "a")
            assert place.read_bytes() == body


async def test_a_copy_is_not_missing_for_one_who_asks_for_it_in_a_size_that_was_corrected(cluster: Cluster) -> None:
    cluster.node("a", replication_poll_seconds=3600)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            name = await client.put_pack(await client.open(), a_body())
        place = place_of(cluster, "a", claims.bucket, name)
        async with cluster.internal("a", "storage", "b") as channel:
            copies = copies_pb2_grpc.CopyServiceStub(channel)
            for size, is_missing in ((500, False), (1000, True)):
                request = copies_pb2.GetCopyRequest(
                    bucket_id=str(claims.bucket), name=str(name), size=size, sha256=bytes.fromhex(name.id)
                )
                assert await refusal_of(copies.GetCopy(request).read()) == "DAMAGED"
                assert bool(cluster.sql("select 1 from missing_copies")) == is_missing
                place.unlink(missing_ok=True)


async def test_altered_copies_are_found_when_a_node_that_is_no_home_reads_them(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with cluster.up("a", "b", "c"):
        claims = await cluster.bucket("a", copies=2)
        homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
        [guest] = {"a", "b", "c"} - homes
        async with cluster.client(guest, claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            places = [place_of(cluster, home, claims.bucket, name) for home in homes]
            for place in places:
                place.write_bytes(altered(body))
            for _ in range(3):
                assert await refusal_of(client.get(session, name)) == "DAMAGED"
            assert await client.reserve(session, name) == [str(name)]
            await client.put(session, name, body)
            await copies_are_complete(cluster, "a")
            assert {place.read_bytes() for place in places} == {body}
            assert await client.get(session, name) == body


async def test_a_part_of_an_object_is_given_from_what_is_left_when_no_copy_is_whole(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with cluster.up("a", "b", "c"):
        claims = await cluster.bucket("a", copies=2)
        homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
        [guest] = {"a", "b", "c"} - homes
        async with cluster.client(guest, claims) as client, cluster.client(min(homes), claims) as other:
            session, others = await client.open(), await other.open()
            name = await client.put_pack(session, body)
            cut, flipped = (place_of(cluster, home, claims.bucket, name) for home in sorted(homes))
            cut.write_bytes(body[: 1 << 20])
            flipped.write_bytes(altered(body))
            for reader, opened in ((client, session), (other, others)):
                assert await refusal_of(reader.get(opened, name)) == "DAMAGED"
                for offset, length in ((0, 1000), ((1 << 20) - 500, 1000), ((3 << 20) - 10, 10)):
                    assert await reader.get(opened, name, offset, length) == body[offset : offset + length]
                middle = len(body) // 2
                assert await reader.get(opened, name, middle, 1) == bytes((body[middle] ^ 1,))
            # Nothing is lost so far, but nothing counts as whole either.
            assert await client.reserve(session, name) == [str(name)]
            flipped.unlink()
            assert await client.get(session, name, 0, 1000) == body[:1000]
            assert await refusal_of(client.get(session, name, 2 << 20, 1000)) == "DAMAGED"


async def test_a_source_whose_copy_is_altered_is_found_out_and_stays_missing(cluster: Cluster) -> None:
    body = a_body(2 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            places = {node: place_of(cluster, node, claims.bucket, name) for node in ("a", "b")}
            places["b"].write_bytes(altered(body))
            places["a"].unlink()
            # A part of it: no node can know that what b gives is wrong.
            await client.get(session, name, 0, 10)
            async with asyncio.timeout(60):
                while (await cluster.describe("a")).missing_copies < 2:  # noqa: ASYNC110 - it is a node that finds out
                    await asyncio.sleep(0.02)
            assert not places["a"].exists()
            assert await client.reserve(session, name) == [str(name)]
            # The next backup that has the data sends it again.
            await client.put(session, name, body)
            await copies_are_complete(cluster, "a")
            assert {place.read_bytes() for place in places.values()} == {body}


async def test_a_lost_config_that_comes_again_is_taken_and_one_that_would_bury_a_vault_is_not(
    cluster: Cluster,
) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await client.initialise(session, b"config 1")
            place = cluster.bucket_folder("a", claims.bucket) / "config"

            async def lose() -> None:
                place.unlink()
                assert await refusal_of(client.get(session, CONFIG)) == "DAMAGED"

            await lose()
            assert await client.initialise(session, b"config 1")
            assert await client.get(session, CONFIG) == b"config 1"
            assert not await client.initialise(session, b"config 1")
            # Nothing was backed up yet, so nothing is lost with it.
            await lose()
            assert await client.initialise(session, b"another config")
            assert await client.get(session, CONFIG) == b"another config"
            await client.commit(session, b"snapshot")
            await lose()
            assert await refusal_of(client.initialise(session, b"config 3")) == "DAMAGED"
            assert await client.initialise(session, b"another config")
            assert place.read_bytes() == b"another config"
        [(objects, size)] = cluster.sql("select objects, bytes from buckets where id = %s", claims.bucket)
        [(count, total)] = cluster.sql("select count(*), sum(size) from objects where bucket_id = %s", claims.bucket)
        assert (objects, size) == (count, total)


async def test_an_error_that_nobody_expected_of_a_copy_ends_neither_replication_nor_the_other_copies(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [a_body() for _ in range(3)]
    look, ask = OwnCopies.look_again, copies.most_urgent
    faults = {"look": 2, "ask": 1}

    async def failing_look(own: OwnCopies, *named: Any) -> bool:
        if faults["look"]:
            faults["look"] -= 1
            raise ZeroDivisionError
        return await look(own, *named)

    async def failing_ask(*asked: Any) -> list[int]:
        if faults["ask"]:
            faults["ask"] -= 1
            raise ZeroDivisionError
        return await ask(*asked)

    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, body) for body in bodies]
        monkeypatch.setattr(OwnCopies, "look_again", failing_look)
        monkeypatch.setattr(copies, "most_urgent", failing_ask)
        async with cluster.up("b"):
            await copies_are_complete(cluster, "a")
    assert faults == {"look": 0, "ask": 0}
    assert [place_of(cluster, "b", claims.bucket, name).read_bytes() for name in names] == bodies
