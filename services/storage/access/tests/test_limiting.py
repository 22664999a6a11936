"""Rate limits around calls: of gRPC, and of restic's protocol (rpc/limiting.py, rest/limiting.py)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from oort.storage.v1 import objects_pb2
from redis.asyncio import Redis

from domain.names import ObjectKind
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.testing.server import reason_of
from services.storage.access.tests.test_rates import FEW
from services.storage.rest import limiting
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests.cluster import Client, Cluster, a_body, pack
from services.storage.tests.restics import a_rest_node, basic_auth


@asynccontextmanager
async def a_limited_node(cluster: Cluster, redis_url: str) -> AsyncIterator[VaultClaims]:
    """Node `a` with few calls, in which no other test counts, and a device with a bucket on it."""
    name = f"test-{uuid4()}"
    own = cluster.node("a", redis_url=redis_url, cluster_name=name)
    cluster.settings["a"] = own.model_copy(update=FEW)
    async with cluster.up("a"):
        yield replace(await cluster.bucket("a"), cluster=name)


async def test_a_limited_call_says_when_to_come_again_and_beats_and_peers_are_not_held_up(
    cluster: Cluster, redis_url: str
) -> None:
    async with a_limited_node(cluster, redis_url) as claims, cluster.client("a", claims) as client:
        session = await client.open()
        await client.list(session, ObjectKind.PACK)
        await client.put_pack(session, a_body())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.put_pack(session, a_body())
        assert reason_of(refused.value) == "RATE_LIMITED"
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 900 < retry_seconds(refused.value) <= 1000
        await client.beat(session)
        for _ in range(5):
            await cluster.describe("a")
        await client.end(session)


async def test_a_stream_that_has_begun_is_not_held_up_by_a_limit_that_is_spent_meanwhile(
    cluster: Cluster, redis_url: str
) -> None:
    async with a_limited_node(cluster, redis_url) as claims, cluster.client("a", claims) as client:
        session, body = await client.open(), a_body(3 << 20)
        going_on = asyncio.Event()

        async def parts() -> AsyncIterator[objects_pb2.PutRequest]:
            header = objects_pb2.PutHeader(session_id=str(session), name=str(pack(body)), size=len(body))
            yield objects_pb2.PutRequest(header=header)
            await going_on.wait()
            for start in range(0, len(body), 1 << 20):
                yield objects_pb2.PutRequest(frame=body[start : start + (1 << 20)])

        put = asyncio.ensure_future(client.objects.Put(parts(), metadata=client.metadata))
        await counts(redis_url, claims, calls=2)
        while await answer_of(client, session) != "RATE_LIMITED":
            pass
        going_on.set()
        assert (await put).copies == 1


async def counts(redis_url: str, claims: VaultClaims, *, calls: int) -> None:
    """Until so many calls of the device have begun."""
    key = f"oort:storage:{claims.cluster}:rate:{claims.device}:calls"
    async with asyncio.timeout(60), Redis.from_url(redis_url) as redis:
        while float(await redis.get(key) or 0) / 1e6 - time.time() < (calls - 0.5) * 1000:
            pass


async def answer_of(client: Client, session: UUID) -> str:
    """Of a list."""
    try:
        await client.list(session, ObjectKind.PACK)
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return "ok"


async def test_hundreds_of_lists_at_once_are_refused_but_for_a_few_and_another_device_goes_on(
    cluster: Cluster, redis_url: str
) -> None:
    async with a_limited_node(cluster, redis_url) as claims:
        other = replace(await cluster.bucket("a"), cluster=claims.cluster)
        async with cluster.client("a", claims) as client, cluster.client("a", other) as neighbour:
            session = await client.open()
            # Of more a busy machine begins some so late that gRPC has let go of them, which it does after 30 seconds.
            answers = await asyncio.gather(*(answer_of(client, session) for _ in range(200)))
            assert sorted(answers) == ["RATE_LIMITED"] * 198 + ["ok"] * 2
            await neighbour.put_pack(await neighbour.open(), a_body())


async def test_guessed_tokens_are_refused_as_such_until_they_are_too_many(cluster: Cluster, redis_url: str) -> None:
    async with (
        a_limited_node(cluster, redis_url) as claims,
        cluster.client("a", claims) as guesser,
        cluster.client("a", claims) as client,
    ):
        guesser.metadata = (("authorization", "Bearer nonsense"),)
        said = [await refusal_of(guesser.open(Purpose.READ)) for _ in range(4)]
        assert said == ["BAD_TOKEN"] * 3 + ["RATE_LIMITED"]
        await client.open(Purpose.READ)


async def test_a_device_hears_that_its_token_has_expired_however_many_strangers_guess_around_it(
    cluster: Cluster, redis_url: str
) -> None:
    async with (
        a_limited_node(cluster, redis_url) as claims,
        cluster.client("a", claims) as guesser,
        cluster.client("a", claims, expires=timedelta(seconds=-10)) as late,
    ):
        guesser.metadata = (("authorization", "Bearer nonsense"),)
        while await refusal_of(guesser.open(Purpose.READ)) != "RATE_LIMITED":
            pass
        said = [await refusal_of(late.open(Purpose.READ)) for _ in range(4)]
        assert said == ["BAD_TOKEN"] * 3 + ["RATE_LIMITED"]


async def test_a_restic_far_beyond_its_limit_is_told_when_to_come_again_and_refreshes_its_lock(
    cluster: Cluster, redis_url: str
) -> None:
    async with a_rest_node(cluster, redis_url=redis_url, cluster_name=f"test-{uuid4()}", limits=FEW) as node:
        claims = await cluster.bucket("a")
        async with node.restic(replace(claims, cluster=cluster.settings["a"].cluster_name)) as restic:
            # The first of its requests is a stranger's, and then it is known.
            await restic.initialise()
            assert (await restic.ask("GET", "config")).status == 200
            answer = await restic.ask("GET", "config")
            assert answer.status == 429
            assert 900 < int(answer.headers["Retry-After"]) <= 1000
            assert "too often" in answer.line
            lock = await restic.lock()
            assert (await restic.delete(lock)).status == 200


async def test_a_restic_that_is_early_by_a_little_waits_at_the_node(
    cluster: Cluster, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "_PATIENCE_SECONDS", 60)  # on a busy machine a little is longer
    limits: dict[str, Any] = {"device_calls_per_second": 4, "calls_burst_seconds": 0.25}
    async with a_rest_node(cluster, redis_url=redis_url, cluster_name=f"test-{uuid4()}", **limits) as node:
        claims = await cluster.bucket("a")
        async with node.restic(replace(claims, cluster=cluster.settings["a"].cluster_name)) as restic:
            await restic.initialise()
            answers = await asyncio.gather(*(restic.ask("GET", "config") for _ in range(5)))
            assert [answer.status for answer in answers] == [200] * 5


async def test_auth_is_asked_about_guesses_as_often_as_strangers_may_call_and_who_is_known_goes_on(
    cluster: Cluster, redis_url: str
) -> None:
    limits = FEW | {"range_calls_per_second": 1}
    async with a_rest_node(cluster, redis_url=redis_url, cluster_name=f"test-{uuid4()}", limits=limits) as node:
        claims = replace(await cluster.bucket("a"), cluster=cluster.settings["a"].cluster_name)
        async with node.restic(claims) as restic:
            await restic.initialise()
            asked = node.auth.asked
            guesses = [{"Authorization": basic_auth(str(claims.device), f"guess {number}")} for number in range(4)]
            answers = [await restic.ask("GET", "config", headers=guess) for guess in guesses]
            assert [answer.status for answer in answers] == [401, 401, 429, 429]
            assert node.auth.asked == asked + 2
            assert (await restic.ask("GET", "config")).status == 200
        # Nor do they get further while auth is out of reach.
        node.auth.is_down = True
        async with node.restic(replace(claims, device=uuid4())) as late:
            assert (await late.ask("GET", "config")).status == 429


def retry_seconds(error: grpc.aio.AioRpcError) -> float:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # made for sync calls; it reads what both have
    retry = RetryInfo()
    assert any(detail.Unpack(retry) for detail in (status.details if status else ()))
    return float(retry.retry_delay.ToNanoseconds() / 1e9)
