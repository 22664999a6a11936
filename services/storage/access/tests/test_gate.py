"""Who gets in, and what row-level security hides when everybody does."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc, copies_pb2, copies_pb2_grpc

from domain.names import CONFIG, ObjectKind
from domain.sessions import Purpose, Scope
from domain.tokens import ALGORITHM, AUDIENCE, ISSUER, VaultClaims, key_id
from services.common.errors import StartError
from services.common.testing.clock import ManualClock
from services.common.testing.server import reason_of
from services.storage.access.gate import TokenGate, load_keys
from services.storage.errors import BadToken
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Client, Cluster


class OpenGate:
    """Lets everybody do everything as whoever they say they are."""

    def __init__(self) -> None:
        self.claims: VaultClaims | None = None

    def read(self, token: str) -> VaultClaims:  # noqa: ARG002 - nor here
        assert self.claims is not None
        return self.claims

    def require(self, context: Any, scope: Scope) -> VaultClaims:  # noqa: ARG002 - it asks for nothing
        assert self.claims is not None
        return self.claims

    def require_signature(self, claims: VaultClaims, statement: bytes, signature: bytes) -> None:
        """Takes any."""


async def everything(client: Client, session: Any, names: list[Any]) -> list[str]:
    """Every call of the public listener, with another's session and names: the reasons of the refusals."""
    made, _listed, committed = names
    calls = [
        client.beat(session),
        client.reserve(session, made),
        client.put_pack(session, b"a pack of mine"),
        client.put(session, made, b""),
        client.put_index(session, [made]),
        client.commit(session, b"a snapshot of mine"),
        client.initialise(session),
        client.get(session, made),
        client.get(session, committed),
        client.get(session, CONFIG),
        *(client.list(session, kind) for kind in ObjectKind),
        client.open(Purpose.READ),
        client.open(Purpose.BACKUP, committed),
        client.open(Purpose.RETENTION),
        client.end(session),
    ]
    return [await refusal_of(call) for call in calls]


async def test_row_level_security_alone_hides_other_tenants_and_other_users(cluster: Cluster) -> None:
    gate = OpenGate()
    async with cluster.up("a", gate=gate):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            gate.claims = claims
            names = list(await a_committed_snapshot(client))
            session = await client.open()
            before = cluster.sql("select seq, objects, bytes from buckets")
            # The same device and bucket, told by somebody of another tenant; by another user; by a user alone.
            for other in (
                replace(claims, tenant=uuid4(), user=uuid4()),
                replace(claims, tenant=uuid4()),
                replace(claims, user=uuid4()),
            ):
                gate.claims = other
                assert set(await everything(client, session, names)) == {"NOT_FOUND", "SESSION_OVER"}
            # An id that is taken by a session they cannot see tells them no more than that.
            own = await cluster.bucket("a")
            gate.claims = own
            async with cluster.client("a", own) as stranger:
                assert await refusal_of(stranger.open(session=session)) == "NOT_ALLOWED"
                mine = await stranger.open()
                for kind in ObjectKind:
                    assert await stranger.list(mine, kind) == []
                assert await stranger.reserve(mine, names[0]) == [str(names[0])]
                assert await refusal_of(stranger.get(mine, names[0])) == "NOT_FOUND"
            gate.claims = claims
            assert cluster.sql("select seq, objects, bytes from buckets where id = %s", claims.bucket) == before
            await client.beat(session)
            assert await client.get(session, names[0])


async def test_a_tenant_s_unit_sees_all_its_users_and_no_other_tenant(cluster: Cluster) -> None:
    async with cluster.up("a") as [db]:
        tenant = uuid4()
        for _ in range(2):
            await cluster.bucket("a", tenant=tenant)
        other = await cluster.bucket("a")
        for scope, expected in (((tenant,), 2), ((other.tenant,), 1), ((uuid4(),), 0), ((tenant, uuid4()), 0), ((), 0)):
            async with db.unit(*scope) as unit:
                cursor = await unit.execute("select count(*) from buckets b join homes h on h.bucket_id = b.id")
                assert await cursor.fetchone() == (expected,)


async def test_every_table_of_a_tenant_is_under_forced_row_level_security(cluster: Cluster) -> None:
    rows = cluster.sql(
        "select c.relname, c.relrowsecurity and c.relforcerowsecurity from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' where c.relkind = 'r'"
    )
    assert {row[0] for row in rows} == {
        "buckets",
        "homes",
        "objects",
        "sessions",
        "object_users",
        "pins",
        "missing_copies",
        "removals",
        "restic_locks",
        "verified_copies",
        "scrubs",
        "quotas",
        "clearings",
        "follows",
        "followers",
    }
    assert all(row[1] for row in rows)


async def test_a_token_must_be_signed_by_auth_for_this_cluster_and_be_fresh(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        wrong: list[tuple[VaultClaims, dict[str, Any]]] = [
            (claims, {"key": Ed25519PrivateKey.generate()}),
            (claims, {"aud": "oort-auth"}),
            (claims, {"iss": "somebody"}),
            (claims, {"expires": timedelta(seconds=-10)}),
            (claims, {"bucket": "no uuid"}),
            (replace(claims, cluster="mars"), {}),
        ]
        for told, changes in wrong:
            async with cluster.client("a", told, **changes) as client:
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await client.open()
                assert reason_of(refusal.value) == "BAD_TOKEN"
                assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "Traceback" not in str(refusal.value.details())
        async with cluster.client("a", claims) as client:
            client.metadata = (("authorization", "Bearer nonsense"),)
            assert await refusal_of(client.open()) == "BAD_TOKEN"
            client.metadata = (("authorization", "nothing"),)
            assert await refusal_of(client.open()) == "NOT_SIGNED_IN"


async def test_a_token_allows_no_more_than_its_scopes(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset({Scope.READ}))
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.READ)
            for call in (client.open(), client.put_pack(session, b"body"), client.commit(session, b"snapshot")):
                assert await refusal_of(call) == "NOT_ALLOWED"


async def test_the_smaller_of_the_token_s_and_the_bucket_s_quota_counts(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a", quota_bytes=1000), quota_bytes=10)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await refusal_of(client.put_pack(session, b"eleven byte")) == "QUOTA_EXCEEDED"
            await client.put_pack(session, b"ten  bytes")


async def test_other_roles_reach_only_what_is_theirs_inside(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.internal("a", "branding", "branding-1") as channel:
            stub = buckets_pb2_grpc.BucketServiceStub(channel)
            assert (
                await refusal_of(stub.GetBucket(buckets_pb2.GetBucketRequest(id=str(claims.bucket)))) == "NOT_ALLOWED"
            )
        async with cluster.internal("a", "auth", "auth-1") as channel:
            copies = copies_pb2_grpc.CopyServiceStub(channel)
            request = copies_pb2.GetCopyRequest(bucket_id=str(claims.bucket), name="config", size=1)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await copies.GetCopy(request).read()
            assert reason_of(refusal.value) == "NOT_ALLOWED"


async def test_a_bucket_is_created_once_however_often_it_is_asked_for(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        await cluster.bucket("a", bucket=claims.bucket, tenant=claims.tenant, user=claims.user)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await cluster.bucket("a", bucket=claims.bucket)
        assert reason_of(refusal.value) == "NOT_ALLOWED"
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await cluster.bucket("a", copies=9)
        assert reason_of(refusal.value) == "TOO_FEW_COPIES"
        for copies, ack in ((0, 0), (1, 2), (17, 1)):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await cluster.bucket("a", copies=copies, ack_copies=ack)
            assert reason_of(refusal.value) == "INVALID_ARGUMENT"
        async with cluster.internal("a") as channel:
            stub = buckets_pb2_grpc.BucketServiceStub(channel)
            listed: list[str] = []
            token = ""
            while True:
                page = await stub.ListBuckets(buckets_pb2.ListBucketsRequest(page_size=1, page_token=token))
                listed += [one.id for one in page.buckets]
                token = page.next_page_token
                if not token:
                    break
            assert str(claims.bucket) in listed
            assert listed == sorted(set(listed))
            found = await stub.GetBucket(buckets_pb2.GetBucketRequest(id=str(claims.bucket)))
            assert (found.bucket.copies, list(found.bucket.home_nodes)) == (1, ["a"])
            missing = stub.GetBucket(buckets_pb2.GetBucketRequest(id=str(uuid4())))
            assert await refusal_of(missing) == "NOT_FOUND"


def test_keys_that_cannot_be_read_stop_the_start_with_one_line(tmp_path: Path) -> None:
    for place, content in (("none", None), ("junk.pem", b"junk")):
        path = tmp_path / place
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StartError, match="OORT_TOKEN_KEYS"):
            load_keys(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartError, match=r"no \*\.pem file"):
        load_keys(tmp_path / "empty")


@pytest.mark.parametrize("days", [-1, 1])
def test_tokens_of_an_auth_with_the_right_clock_outlive_a_clock_of_the_node_that_is_set_back(days: int) -> None:
    """Set back, a node takes tokens for longer; ahead, it says that they have expired, and holds no caller up."""
    key = Ed25519PrivateKey.generate()
    kid = key_id(key.public_key().public_bytes_raw())
    clock = ManualClock()
    some = UUID(int=1)
    claims = VaultClaims(some, some, some, some, "main", frozenset({Scope.READ}), 0, bytes(32))
    payload = claims.to_payload() | {"iss": ISSUER, "aud": AUDIENCE, "exp": clock.now() + timedelta(minutes=15)}
    token = jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": kid})
    gate = TokenGate({kid: key.public_key()}, "main", clock)
    assert gate.read(token) == claims

    clock.set_wall(clock.now() + timedelta(days=days))

    if days < 0:
        assert gate.read(token) == claims
    else:
        with pytest.raises(BadToken, match="expired"):
            gate.read(token)
