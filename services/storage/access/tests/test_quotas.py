"""Quotas that several buckets share: whom they stop, however many puts take effect at once (quotas.py)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import grpc
import pytest
from oort.storage.v1 import quotas_pb2, quotas_pb2_grpc

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store import buckets, quotas
from services.storage.tests.cluster import Client, Cluster, a_body
from services.storage.tests.restics import a_rest_node

FAR = 256 * (32 << 20)


class Operator:
    """What an operator asks of a node's QuotaService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = quotas_pb2_grpc.QuotaServiceStub(channel)

    async def limit(self, tenant: UUID | str, size: int, name: str = "") -> None:
        quota = quotas_pb2.Quota(tenant_id=str(tenant), name=name, bytes=size)
        await self.stub.SetQuota(quotas_pb2.SetQuotaRequest(quota=quota))

    async def group(self, bucket: UUID, name: str) -> None:
        await self.stub.SetGroup(quotas_pb2.SetGroupRequest(bucket_id=str(bucket), name=name))

    async def limit_bucket(self, bucket: UUID, size: int) -> tuple[int, int]:
        request = quotas_pb2.SetBucketQuotaRequest(bucket_id=str(bucket), bytes=size)
        answer = await self.stub.SetBucketQuota(request)
        return answer.bytes_before, answer.used_bytes

    async def listed(self, tenant: UUID) -> list[tuple[str, int, int]]:
        """Name, limit and use of a tenant's quotas, by pages of one."""
        found: list[quotas_pb2.Quota] = []
        token, more = "", True
        while more:
            page = await self.stub.ListQuotas(quotas_pb2.ListQuotasRequest(page_size=1, page_token=token))
            found += page.quotas
            token, more = page.next_page_token, bool(page.next_page_token)
        return [(one.name, one.bytes, one.used_bytes) for one in found if one.tenant_id == str(tenant)]


@asynccontextmanager
async def operating(cluster: Cluster) -> AsyncIterator[Operator]:
    async with cluster.internal("a") as channel:
        yield Operator(channel)


@asynccontextmanager
async def writers(cluster: Cluster, *claims: VaultClaims) -> AsyncIterator[list[tuple[Client, UUID]]]:
    """A client with an open backup for each bucket."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.client("a", one)) for one in claims]
        yield [(client, await client.open()) for client in clients]


async def test_buckets_of_two_users_share_the_quota_of_their_tenant_and_no_other_does(cluster: Cluster) -> None:
    async with cluster.up("a"), operating(cluster) as operator:
        tenant = uuid4()
        claims = [await cluster.bucket("a", tenant=tenant), await cluster.bucket("a", tenant=tenant)]
        await operator.limit(tenant, 1000)
        async with writers(cluster, *claims, await cluster.bucket("a")) as (first, second, other):
            await first[0].put_pack(first[1], a_body(600))
            assert await refusal_of(second[0].put_pack(second[1], a_body(401))) == "QUOTA_EXCEEDED"
            await second[0].put_pack(second[1], a_body(400))
            await other[0].put_pack(other[1], a_body(2000))
            assert await operator.listed(tenant) == [("", 1000, 1000)]
            await operator.limit(tenant, 0)
            await first[0].put_pack(first[1], a_body(600))
            assert await operator.listed(tenant) == []


async def test_the_quota_of_one_bucket_is_changed_and_of_no_other(cluster: Cluster) -> None:
    async with cluster.up("a"), operating(cluster) as operator:
        claims = [await cluster.bucket("a") for _ in range(2)]
        async with writers(cluster, *claims) as (first, second):
            await first[0].put_pack(first[1], a_body(600))
            assert await operator.limit_bucket(claims[0].bucket, 1000) == (0, 600)
            assert await refusal_of(first[0].put_pack(first[1], a_body(401))) == "QUOTA_EXCEEDED"
            await second[0].put_pack(second[1], a_body(2000))
            assert await operator.limit_bucket(claims[0].bucket, 0) == (1000, 600)
            await first[0].put_pack(first[1], a_body(401))
        assert await refusal_of(operator.limit_bucket(uuid4(), 1)) == "NOT_FOUND"
        assert await refusal_of(operator.limit_bucket(claims[0].bucket, 1 << 63)) == "INVALID_ARGUMENT"


async def test_a_group_has_its_quota_below_that_of_the_tenant(cluster: Cluster) -> None:
    async with cluster.up("a"), operating(cluster) as operator:
        tenant = uuid4()
        claims = [await cluster.bucket("a", tenant=tenant) for _ in range(3)]
        for one in claims[:2]:
            await operator.group(one.bucket, "photos")
        await operator.limit(tenant, 500, "photos")
        await operator.limit(tenant, 1000)
        async with writers(cluster, *claims) as (first, second, apart):
            await first[0].put_pack(first[1], a_body(300))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second[0].put_pack(second[1], a_body(201))
            assert "photos" in str(refused.value.details())
            await apart[0].put_pack(apart[1], a_body(700))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second[0].put_pack(second[1], a_body(1))
            assert "all vaults" in str(refused.value.details())
            assert await operator.listed(tenant) == [("", 1000, 1000), ("photos", 500, 300)]
            # One that leaves the group is under the tenant's alone.
            await operator.limit(tenant, 0)
            await operator.group(claims[1].bucket, "")
            await second[0].put_pack(second[1], a_body(2000))
            assert await operator.listed(tenant) == [("photos", 500, 300)]


@pytest.mark.parametrize(("limit", "taken"), [(1000, 10), (FAR + 2000, 40)], ids=["near", "far and then near"])
async def test_puts_into_several_buckets_at_once_never_pass_the_quota(cluster: Cluster, limit: int, taken: int) -> None:
    async with cluster.up("a"), operating(cluster) as operator:
        tenant = uuid4()
        claims = [await cluster.bucket("a", tenant=tenant) for _ in range(4)]
        await operator.limit(tenant, limit)
        async with writers(cluster, *claims) as several:
            puts = [client.put_pack(session, a_body(100)) for client, session in several for _ in range(10)]
            done = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in done) == taken
        assert cluster.sql("select sum(bytes) from buckets where tenant_id = %s", tenant) == [(taken * 100,)]


async def test_a_put_that_waits_for_its_bucket_meets_the_quota_that_was_set_meanwhile(cluster: Cluster) -> None:
    async with cluster.up("a") as (db,), operating(cluster) as operator:
        claims = await cluster.bucket("a")
        async with writers(cluster, claims) as ((client, session),):
            async with db.unit(claims.tenant, claims.user) as unit:
                await buckets.lock(unit, claims.bucket)
                putting = asyncio.ensure_future(client.put_pack(session, a_body()))
                await waiting(cluster, "buckets")
                await operator.limit(claims.tenant, 10)
            assert await refusal_of(putting) == "QUOTA_EXCEEDED"


async def test_far_from_the_limit_puts_do_not_wait_for_each_other_and_near_it_they_do(cluster: Cluster) -> None:
    async with cluster.up("a") as (db,), operating(cluster) as operator:
        claims = [await cluster.bucket("a", tenant=uuid4())]
        claims.append(await cluster.bucket("a", tenant=claims[0].tenant))
        await operator.limit(claims[0].tenant, 1000)

        going_on, held = asyncio.Event(), [asyncio.Event(), asyncio.Event(), asyncio.Event()]

        async def hold(claims: VaultClaims, far: int | None, mine: asyncio.Event) -> int:
            """What is left when the quota is had, of which the bucket takes 300 bytes when all may go on."""
            async with db.unit(claims.tenant, claims.user) as unit:
                bucket = await buckets.lock(unit, claims.bucket)
                assert bucket
                (quota,) = await quotas.hold(unit, bucket, far)
                await unit.execute("update buckets set bytes = bytes + 300 where id = %s", (claims.bucket,))
                mine.set()
                await going_on.wait()
            return quota.left

        holding = [asyncio.ensure_future(hold(one, 500, mine)) for one, mine in zip(claims, held, strict=False)]
        for mine in held[:2]:
            # Both have it, and neither has ended.
            await mine.wait()
        third = await cluster.bucket("a", tenant=claims[0].tenant)
        beside = asyncio.ensure_future(hold(third, 500, held[2]))
        near = asyncio.ensure_future(hold(await cluster.bucket("a", tenant=claims[0].tenant), None, asyncio.Event()))
        await held[2].wait()
        await waiting(cluster, "quotas")
        going_on.set()
        assert [await one for one in (*holding, beside)] == [1000, 1000, 1000]
        # It has waited, and sees what they took.
        assert await near == 100
        assert await left(db, claims[0]) == -200


async def waiting(cluster: Cluster, table: str) -> None:
    """Until somebody waits for a row that others hold."""
    query = (
        "select 1 from pg_locks where locktype = 'tuple' and relation = %s::regclass"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(cluster.sql, query, table):
            pass


async def left(db: Database, claims: VaultClaims) -> int:
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await buckets.lock(unit, claims.bucket)
        assert bucket
        (quota,) = await quotas.hold(unit, bucket, 500)
    return quota.left


async def test_a_retention_and_the_first_files_of_a_vault_are_judged_as_by_a_bucket_s_own_quota(
    cluster: Cluster,
) -> None:
    async with cluster.up("a"), operating(cluster) as operator:
        claims = await cluster.bucket("a")
        claims = replace(claims, scopes=claims.scopes | {Scope.DELETE})
        await operator.limit(claims.tenant, 10)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await refusal_of(client.initialise(session)) == "QUOTA_EXCEEDED"
            await client.end(session)
            await client.put_pack(await client.open(Purpose.RETENTION), a_body(100))


async def test_a_restic_is_told_of_a_shared_quota_as_of_its_own(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node, operating(cluster) as operator:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            await operator.limit(claims.tenant, 500)
            body = a_body(1000)
            answer = await restic.ask("POST", f"{ObjectKind.PACK}/{'0' * 64}", data=body)
            assert (answer.status, "quota" in answer.line) == (403, True)


async def test_quotas_are_the_operator_s_alone_and_their_names_are_plain(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.internal("a", "auth", "auth-1") as channel:
            auth = Operator(channel)
            for call in (
                auth.limit(claims.tenant, 1),
                auth.limit_bucket(claims.bucket, 1),
                auth.group(claims.bucket, "x"),
                auth.listed(claims.tenant),
            ):
                assert await refusal_of(call) == "NOT_ALLOWED"
        async with operating(cluster) as operator:
            for name in ("a/b", ".hidden", "x" * 64, "a b", "a\0b"):
                assert await refusal_of(operator.limit(claims.tenant, 1, name)) == "INVALID_ARGUMENT"
                assert await refusal_of(operator.group(claims.bucket, name)) == "INVALID_ARGUMENT"
            assert await refusal_of(operator.limit(claims.tenant, 1 << 63)) == "INVALID_ARGUMENT"
            assert await refusal_of(operator.limit("nobody", 1)) == "INVALID_ARGUMENT"
            assert await refusal_of(operator.group(uuid4(), "photos")) == "NOT_FOUND"


async def test_a_body_whose_quota_stays_locked_is_tried_again_and_not_left_where_that_is_in_vain(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.sessions.standing.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("services.storage.transfer.patience._PAUSE_SECONDS", 0)
    monkeypatch.setattr("services.storage.transfer.patience._LAST_TRY_SECONDS", 600)
    async with cluster.up("a") as (db,), operating(cluster) as operator:
        claims = await cluster.bucket("a", tenant=uuid4())
        await operator.limit(claims.tenant, 1 << 30)
        async with writers(cluster, claims) as ((client, session),):
            async with db.unit(claims.tenant) as unit:
                await unit.execute("select 1 from quotas for no key update")
                putting = asyncio.ensure_future(client.put_pack(session, a_body()))
                await waiting(cluster, "quotas")
            await putting
            before = cluster.files("a")
            monkeypatch.setattr("services.storage.transfer.patience._LAST_TRY_SECONDS", 0.2)
            async with db.unit(claims.tenant) as unit:
                await unit.execute("select 1 from quotas for no key update")
                assert await refusal_of(client.put_pack(session, a_body())) == "UNAVAILABLE"
            assert cluster.files("a") == before
