"""Copies on several nodes: put anywhere, read anywhere, nodes that die, and healing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import objects_pb2

from domain.names import CONFIG, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.testing.server import reason_of
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, NodeProcess, a_body, a_session_id, pack, start_node


async def copies_are_complete(cluster: Cluster, node: str) -> None:
    async with asyncio.timeout(300):
        while not (await cluster.describe(node)).copies_complete:  # noqa: ASYNC110 - it is another process that heals
            await asyncio.sleep(0.05)


async def test_a_put_through_any_node_lies_on_every_home_and_is_read_from_any(cluster: Cluster) -> None:
    body = a_body(5 << 20)
    async with cluster.up("a", "b", "c"):
        claims = await cluster.bucket("a", copies=2)
        described = await cluster.describe("c")
        assert [(one.id, one.live) for one in described.nodes] == [("a", True), ("b", True), ("c", True)]
        homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
        assert len(homes) == 2
        [guest] = {"a", "b", "c"} - homes
        for through in ("a", "b", "c"):
            body = a_body(5 << 20)
            async with cluster.client(through, claims) as client:
                session = await client.open()
                answer = await client.put(session, pack(body), body)
                assert (answer.existed, answer.copies) == (False, 2)
            for reader in ("a", "b", "c"):
                async with cluster.client(reader, claims) as client:
                    assert await client.get(session, pack(body)) == body
                    assert await client.get(session, pack(body), 1 << 20, 5) == body[1 << 20 : (1 << 20) + 5]
        assert (await cluster.describe("a")).missing_copies == 0
    for home in homes:
        assert (cluster.bucket_folder(home, claims.bucket) / pack(body).path).read_bytes() == body
        assert len(cluster.files(home)) == 3
    assert cluster.files(guest) == []


async def test_an_opening_names_the_nodes_that_hold_the_bucket_and_live(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        for copies in (1, 2):
            claims = await cluster.bucket("a", copies=copies)
            homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
            assert len(homes) == copies
            async with cluster.client("b", claims) as client:
                opened = await client.open_raw(a_session_id(), Purpose.BACKUP, None)
            assert set(opened.homes) == {cluster.settings[home].public_endpoint for home in homes}
    async with cluster.up("b"), cluster.client("b", claims) as client:
        await cluster.falls_silent("a")
        opened = await client.open_raw(a_session_id(), Purpose.BACKUP, None)
        assert list(opened.homes) == [cluster.settings["b"].public_endpoint]


async def test_initialising_reaches_every_home(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as one, cluster.client("b", claims) as two:
            session = await one.open()
            made = await asyncio.gather(one.initialise(session, b"config one"), two.initialise(session, b"config two"))
            assert sorted(made) == [False, True]
            config = b"config one" if made[0] else b"config two"
            assert await two.get(session, CONFIG) == config
            await one.end(session)
    # What came second may have been durable on a home already: that is thrown away once its session is over.
    async with cluster.up("a", "b"):
        assert len(cluster.files("a")) == 3
        assert cluster.files("a") == cluster.files("b")
    for node in ("a", "b"):
        assert (cluster.bucket_folder(node, claims.bucket) / "config").read_bytes() == config


async def test_a_wrong_body_is_refused_as_such_by_a_node_that_is_no_home(cluster: Cluster) -> None:
    async with cluster.up("a", "b", "c"):
        claims = await cluster.bucket("a", copies=2)
        homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
        [guest] = {"a", "b", "c"} - homes
        async with cluster.client(guest, claims) as client:
            session = await client.open()
            assert await refusal_of(client.put(session, pack(b"body"), b"evil")) == "NAME_MISMATCH"
        assert [cluster.files(node) for node in ("a", "b", "c")] == [[], [], []]


async def test_a_cut_or_missing_copy_is_answered_from_the_other_home_and_healed(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, body)
            place = cluster.bucket_folder("a", claims.bucket) / name.path
            for spoil in (lambda: place.write_bytes(body[:1000]), place.unlink):
                spoil()
                assert await client.get(session, name) == body
                await copies_are_complete(cluster, "a")
                assert place.read_bytes() == body


async def test_without_enough_live_homes_a_put_is_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        async with cluster.up("b"):
            claims = await cluster.bucket("a", copies=2, ack_copies=2)
        await cluster.change("update nodes set last_seen = now() - interval '1 hour' where id = 'b'")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await client.put_pack(session, b"body")
            assert reason_of(refusal.value) == "TOO_FEW_COPIES"
            assert "Try again" in str(refusal.value.details())
            # It seems to live, and does not answer.
            await cluster.change("update nodes set last_seen = now() + interval '1 hour' where id = 'b'")
            assert await refusal_of(client.put_pack(session, b"body")) == "TOO_FEW_COPIES"
            assert cluster.files("a") == []


async def test_a_full_home_leaves_its_copy_missing_and_the_put_succeeds(cluster: Cluster) -> None:
    cluster.node("b", low_water_bytes=1 << 60)
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            answer = await client.put(session, pack(b"body"), b"body")
            assert answer.copies == 1
            assert (await cluster.describe("a")).missing_copies == 1
            assert await client.get(session, pack(b"body")) == b"body"
    del cluster.settings["b"]
    cluster.node("b")
    async with cluster.up("a", "b"):
        await copies_are_complete(cluster, "a")
        assert (cluster.bucket_folder("b", claims.bucket) / pack(b"body").path).read_bytes() == b"body"


async def test_a_copy_that_nobody_can_give_stays_missing(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            name = await client.put_pack(session, b"body")
            for node in ("a", "b"):
                (cluster.bucket_folder(node, claims.bucket) / name.path).unlink()
            assert await refusal_of(client.get(session, name)) == "DAMAGED"
            assert (await cluster.describe("a")).missing_copies >= 1
            with pytest.raises(grpc.aio.AioRpcError):
                await client.get(session, name)


@contextlib.asynccontextmanager
async def processes(cluster: Cluster, *names: str) -> AsyncIterator[dict[str, NodeProcess]]:
    """Nodes in processes of their own, ended in the end however they ended before."""
    running: dict[str, NodeProcess] = {}
    try:
        for name in names:
            running[name] = await start_node(cluster, name)
        yield running
    finally:
        for node in running.values():
            await node.stop()


@dataclass
class SlowPut:
    """A put through node a that sends half of its body, and the rest when it is told to go."""

    cluster: Cluster
    claims: VaultClaims
    session: UUID
    body: bytes
    half: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> objects_pb2.PutResponse:
        async with self.cluster.client("a", self.claims) as client:
            return await client.objects.Put(self._parts(), metadata=client.metadata)

    async def _parts(self) -> AsyncIterator[objects_pb2.PutRequest]:
        header = objects_pb2.PutHeader(session_id=str(self.session), name=str(pack(self.body)), size=len(self.body))
        yield objects_pb2.PutRequest(header=header)
        middle = len(self.body) // 2
        yield objects_pb2.PutRequest(frame=self.body[:middle])
        self.half.set()
        await self.go.wait()
        yield objects_pb2.PutRequest(frame=self.body[middle:])


def was_cut_off(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection was lost; of a message that could not be sent any more gRPC itself says INTERNAL."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or (
        error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"
    )


async def test_a_home_killed_in_the_middle_of_a_put_is_healed_when_it_comes_back(cluster: Cluster) -> None:
    body = a_body(2 << 20)
    async with processes(cluster, "a", "b") as running:
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            kept = await client.put_pack(session, a_body())
            slow = SlowPut(cluster, claims, session, body)
            put = asyncio.ensure_future(slow.run())
            await slow.half.wait()
            await running["b"].kill()
            slow.go.set()
            assert (await put).copies == 1
            assert (await cluster.describe("a")).missing_copies == 1
            more = await client.put_pack(session, a_body())
            assert (await cluster.describe("a")).missing_copies == 2
            running["b"] = await start_node(cluster, "b")
            await copies_are_complete(cluster, "a")
        async with cluster.client("b", claims) as client:
            assert await client.get(session, pack(body)) == body
        for name in (kept, pack(body), more):
            copies = [(cluster.bucket_folder(node, claims.bucket) / name.path).read_bytes() for node in ("a", "b")]
            assert copies[0] == copies[1]
        assert cluster.files("a") == cluster.files("b")


async def test_a_session_goes_on_through_the_other_node_when_one_is_killed(cluster: Cluster) -> None:
    body = a_body(2 << 20)
    async with processes(cluster, "a", "b") as running:
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            made = await client.put_pack(session, a_body())
            slow = SlowPut(cluster, claims, session, body)
            put = asyncio.ensure_future(slow.run())
            await slow.half.wait()
            await running["a"].kill()
            slow.go.set()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await put
            assert was_cut_off(refusal.value)
        async with cluster.client("b", claims) as client:
            await client.beat(session)
            assert not (await client.put(session, pack(body), body)).existed
            await client.put_index(session, [made, pack(body)])
            committed = await client.commit(session, b"snapshot")
            running["a"] = await start_node(cluster, "a")
            await copies_are_complete(cluster, "b")
        async with cluster.client("a", claims) as client:
            assert await client.get(session, committed) == b"snapshot"
            assert await client.get(session, pack(body)) == body
        assert cluster.files("a") == cluster.files("b")


async def test_nodes_killed_at_any_moment_of_many_puts_lose_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    bodies = [a_body(1 << 20) for _ in range(40)]
    acknowledged: set[ObjectName] = set()
    async with processes(cluster, "a", "b") as running:
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("a", claims) as one, cluster.client("b", claims) as two:
            session = await one.open()
            waiting = list(bodies)

            async def send() -> None:
                while waiting:
                    body = waiting.pop()
                    # A node takes long to start on a busy machine.
                    async with asyncio.timeout(120):
                        for client in cycle((one, two)):
                            try:
                                await client.put(session, pack(body), body)
                            except grpc.aio.AioRpcError as error:
                                if not was_cut_off(error):
                                    raise
                                await asyncio.sleep(0.05)
                            else:
                                acknowledged.add(pack(body))
                                break

            async def kill_in_turn() -> None:
                for name, count in (("a", 5), ("b", 15), ("a", 25)):
                    while len(acknowledged) < count:  # noqa: ASYNC110 - any moment after it will do
                        await asyncio.sleep(0.005)
                    await running[name].kill()
                    running[name] = await start_node(cluster, name)

            await asyncio.gather(kill_in_turn(), *(send() for _ in range(4)))
            assert acknowledged == {pack(body) for body in bodies}
            await copies_are_complete(cluster, "a")
        for node in ("a", "b"):
            for body in bodies:
                assert (cluster.bucket_folder(node, claims.bucket) / pack(body).path).read_bytes() == body
    [(objects, size)] = cluster.sql("select objects, bytes from buckets where id = %s", claims.bucket)
    assert (objects, size) == (40, 40 << 20)


async def test_what_a_killed_node_had_staged_is_settled_by_the_catalogue(cluster: Cluster) -> None:
    """Killed between making the copy durable and renaming it: entered ones are placed, the others in time removed."""
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            made, *_ = await a_committed_snapshot(client)
            open_session, over = await client.open(), await client.open()
            await client.end(over)
    folder = cluster.settings["a"].data_dirs[0] / "incoming" / str(claims.bucket)
    place = cluster.bucket_folder("a", claims.bucket) / made.path
    body = place.read_bytes()
    place.rename(folder / f"{over}.data.{made.id}.01")
    pending, refused = pack(b"pending"), pack(b"refused")
    (folder / f"{open_session}.data.{pending.id}.02").write_bytes(b"pending")
    (folder / f"{over}.data.{refused.id}.03").write_bytes(b"refused")
    (folder / f"{open_session}.data.{refused.id}.04.part").write_bytes(b"ref")
    (folder / f"{over}.config.{'0' * 64}.05").write_bytes(b"the config of who came second")
    config = cluster.bucket_folder("a", claims.bucket) / "config"
    first_config = config.read_bytes()
    async with cluster.up("a"), cluster.client("a", claims) as client:
        assert place.read_bytes() == body
        assert config.read_bytes() == first_config
        assert [path.name for path in folder.iterdir()] == [f"{open_session}.data.{pending.id}.02"]
        session = await client.open()
        assert await client.get(session, made) == body
        await client.end(open_session)
        # Entered but not yet in its place: whoever reads first settles it.
        place.rename(folder / f"{over}.data.{made.id}.06")
        assert await client.get(session, made) == body
    async with cluster.up("a"):
        assert list(folder.iterdir()) == []
    assert place.read_bytes() == body


async def test_two_nodes_never_share_a_data_folder(cluster: Cluster) -> None:
    cluster.node("b", data_dirs=[cluster.folder / "a"])
    async with cluster.up("a"):
        with pytest.raises(Exception, match="another storage node has"):
            async with cluster.up("b"):
                raise AssertionError("it started")
