"""Auth served in the test's process over TLS, with a storage cluster that is small but a real server; and builders."""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.auth.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    devices_pb2_grpc,
    jobs_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
)
from oort.auth.v1 import buckets_pb2_grpc as admin_buckets_pb2_grpc
from oort.storage.v1 import (
    buckets_pb2,
    buckets_pb2_grpc,
    protection_pb2,
    protection_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from redis.asyncio import Redis

from domain.ids import uuid7
from services.auth.gate import Caller, Context, Gate
from services.auth.storage import Storage
from services.auth.store.users import Role
from services.auth.tokens import TokenSigner
from services.auth.wiring import Foundation, build
from services.common.database import Database
from services.common.errors import NotAllowed, NotFound, ServiceError
from services.common.listeners import Served
from services.common.provision import DatabaseUrls
from services.common.rpc import internal_channel
from services.common.settings import ProcessSettings
from services.common.testing.clock import ManualClock
from services.common.testing.server import Certificates, Endpoints, reason_of, serving, some_settings

PEPPER = b"pepper of the tests, 32 bytes ok"
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
FIRST_TENANT = "first"


def an_id() -> UUID:
    return uuid7(1_767_225_600_000, secrets.token_bytes(10))


def a_name(what: str = "name") -> str:
    return f"{what}-{secrets.token_hex(6)}"


def credentials_with(login_key: bytes, sealed_key: bytes = b"K sealed under R") -> accounts_pb2.Credentials:
    kdf = accounts_pb2.KdfParameters(salt=secrets.token_bytes(16), memory_kib=64 * 1024, iterations=3, lanes=4)
    return accounts_pb2.Credentials(kdf=kdf, login_key=login_key, sealed_key=sealed_key)


@dataclass
class Person:
    """A user, and what only the user knows."""

    tenant_id: str
    tenant: str
    id: str
    username: str
    login_key: bytes


@dataclass
class SignedIn:
    """A session of a person, on a device or on none."""

    person: Person
    token: str
    device: str
    key: Ed25519PrivateKey

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


class TooFew(ServiceError):
    """Two copies need two nodes."""

    reason = "TOO_FEW_COPIES"
    code = grpc.StatusCode.UNAVAILABLE


class FewNodes(
    buckets_pb2_grpc.BucketServiceServicer,
    sessions_pb2_grpc.SessionControlServiceServicer,
    protection_pb2_grpc.ProtectionServiceServicer,
):
    """What a storage cluster says of buckets, and how often it was asked. It may be told to fail."""

    def __init__(self) -> None:
        self.buckets: dict[str, buckets_pb2.Bucket] = {}
        self.sessions: list[sessions_pb2.OpenSession] = []
        self.removed: dict[str, list[protection_pb2.BasketEntry]] = {}
        self.asked: list[Any] = []
        self.brakes: set[str] = set()
        self.creates = 0
        self.describes = 0
        self.failing: grpc.StatusCode | None = None
        self.too_few = False
        self.nodes = [
            buckets_pb2.Node(id="node-2", public_endpoint="n2.test:8061", live=False),
            buckets_pb2.Node(id="node-1", public_endpoint="n1.test:8061", rest_endpoint="n1.test:8071", live=True),
        ]

    async def CreateBucket(
        self, request: buckets_pb2.CreateBucketRequest, context: Context
    ) -> buckets_pb2.CreateBucketResponse:
        self.creates += 1
        await self._fail(context)
        wanted = request.bucket
        known = self.buckets.setdefault(wanted.id, wanted)
        if known != wanted:
            raise NotAllowed(detail="There is another bucket of this id.")
        return buckets_pb2.CreateBucketResponse(bucket=known)

    async def DescribeCluster(
        self, request: buckets_pb2.DescribeClusterRequest, context: Context
    ) -> buckets_pb2.DescribeClusterResponse:
        del request
        self.describes += 1
        await self._fail(context)
        return buckets_pb2.DescribeClusterResponse(name="local", nodes=self.nodes)

    async def ListSessions(
        self, request: sessions_pb2.ListSessionsRequest, context: Context
    ) -> sessions_pb2.ListSessionsResponse:
        """In pages of one."""
        await self._fail(context)
        found = [
            one
            for one in self.sessions
            if one.tenant_id == request.tenant_id and request.bucket_id in ("", one.bucket_id)
        ]
        start = int(request.page_token or 0)
        more = str(start + 1) if len(found) > start + 1 else ""
        return sessions_pb2.ListSessionsResponse(sessions=found[start : start + 1], next_page_token=more)

    async def EndSession(
        self, request: sessions_pb2.EndSessionRequest, context: Context
    ) -> sessions_pb2.EndSessionResponse:
        await self._fail(context)
        left = [one for one in self.sessions if (one.id, one.tenant_id) != (request.session_id, request.tenant_id)]
        if len(left) == len(self.sessions):
            raise NotFound(what="session")
        self.sessions = left
        return sessions_pb2.EndSessionResponse()

    async def ListBasket(
        self, request: protection_pb2.ListBasketRequest, context: Context
    ) -> protection_pb2.ListBasketResponse:
        bucket = await self._asked(request, context)
        protection = protection_pb2.Protection(tenant_id=bucket.tenant_id, user_id=bucket.user_id)
        entries = self.removed.get(request.bucket_id, [])
        return protection_pb2.ListBasketResponse(entries=entries, protection=protection)

    async def PlanRestore(
        self, request: protection_pb2.PlanRestoreRequest, context: Context
    ) -> protection_pb2.PlanRestoreResponse:
        await self._asked(request, context)
        return protection_pb2.PlanRestoreResponse(from_seq=3)

    async def Restore(self, request: protection_pb2.RestoreRequest, context: Context) -> protection_pb2.RestoreResponse:
        await self._asked(request, context)
        if request.bucket_id in self.brakes:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a retention is open")
        return protection_pb2.RestoreResponse(done=True)

    async def SetLock(self, request: protection_pb2.SetLockRequest, context: Context) -> protection_pb2.SetLockResponse:
        await self._asked(request, context)
        return protection_pb2.SetLockResponse(days_before=7)

    async def Release(self, request: protection_pb2.ReleaseRequest, context: Context) -> protection_pb2.ReleaseResponse:
        await self._asked(request, context)
        return protection_pb2.ReleaseResponse(was_braked=request.bucket_id in self.brakes)

    async def _asked(self, request: Any, context: Context) -> buckets_pb2.Bucket:
        """The bucket, if it is one of the tenant that is named."""
        await self._fail(context)
        self.asked.append(request)
        bucket = self.buckets.get(request.bucket_id)
        if bucket is None or request.tenant_id not in ("", bucket.tenant_id):
            raise NotFound(what=f"bucket {request.bucket_id}")
        return bucket

    async def GetBucket(self, request: buckets_pb2.GetBucketRequest, context: Context) -> buckets_pb2.GetBucketResponse:
        if request.id not in self.buckets:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bucket")
        return buckets_pb2.GetBucketResponse(bucket=self.buckets[request.id])

    async def ListBuckets(
        self, request: buckets_pb2.ListBucketsRequest, context: Context
    ) -> buckets_pb2.ListBucketsResponse:
        del request, context
        return buckets_pb2.ListBucketsResponse(buckets=self.buckets.values())

    async def _fail(self, context: Context) -> None:
        if self.too_few:
            raise TooFew
        if self.failing:
            await context.abort(self.failing, "as the test wants")


@dataclass
class World:
    """A running auth role and the storage cluster beside it."""

    endpoints: Endpoints
    channel: grpc.aio.Channel
    operator: grpc.aio.Channel
    clock: ManualClock
    redis: Redis
    db: Database
    nodes: FewNodes
    nodes_endpoint: str
    cluster: str = field(default_factory=lambda: a_name("cluster"))

    def __post_init__(self) -> None:
        self.accounts = accounts_pb2_grpc.AccountServiceStub(self.channel)
        self.devices = devices_pb2_grpc.DeviceServiceStub(self.channel)
        self.profiles = profiles_pb2_grpc.ProfileServiceStub(self.channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self.protection = admin_buckets_pb2_grpc.BucketAdminServiceStub(self.channel)
        self.setup = admin_pb2_grpc.SetupServiceStub(self.operator)

    async def the_first_admin(self) -> Person:
        """Of this database's installation; the same in every test of a module."""
        person = Person(
            str(UUID("01900000-0000-7000-8000-000000000001")),
            FIRST_TENANT,
            str(UUID("01900000-0000-7000-8000-000000000002")),
            "root",
            b"first admin's L, 32 bytes long..",
        )
        kdf = accounts_pb2.KdfParameters(salt=b"0123456789abcdef", memory_kib=64 * 1024, iterations=3, lanes=4)
        await self.setup.AddFirstAdmin(
            admin_pb2.AddFirstAdminRequest(
                tenant=admin_pb2.Tenant(id=person.tenant_id, name=person.tenant),
                admin=admin_pb2.User(id=person.id, username=person.username, role=accounts_pb2.ROLE_ADMIN),
                credentials=accounts_pb2.Credentials(kdf=kdf, login_key=person.login_key, sealed_key=b"sealed"),
            )
        )
        return person

    async def a_tenant(self) -> Person:
        """The administrator of a new tenant."""
        root = await self.signed_in(await self.the_first_admin(), device=False)
        admin = Person(str(an_id()), a_name("tenant"), str(an_id()), "admin", secrets.token_bytes(32))
        await self.admin.AddTenant(
            admin_pb2.AddTenantRequest(
                tenant=admin_pb2.Tenant(id=admin.tenant_id, name=admin.tenant),
                admin=admin_pb2.User(id=admin.id, username=admin.username, role=accounts_pb2.ROLE_ADMIN),
                credentials=credentials_with(admin.login_key),
            ),
            metadata=root.metadata,
        )
        return admin

    async def a_user(self, of: Person | None = None) -> Person:
        """A new user in the tenant of `of`, an administrator; by default in a new tenant."""
        admin = of or await self.a_tenant()
        session = await self.signed_in(admin, device=False)
        user = Person(admin.tenant_id, admin.tenant, str(an_id()), a_name("user"), secrets.token_bytes(32))
        await self.admin.AddUser(
            admin_pb2.AddUserRequest(
                user=admin_pb2.User(id=user.id, username=user.username, role=accounts_pb2.ROLE_USER),
                credentials=credentials_with(user.login_key),
            ),
            metadata=session.metadata,
        )
        return user

    async def signed_in(self, person: Person, *, device: bool = True) -> SignedIn:
        """A new session of a person, on a new device or on none."""
        key = Ed25519PrivateKey.generate()
        presented = a_device(key) if device else None
        answer = await self.log_in(person, presented)
        return SignedIn(person, answer.session_token, answer.device_id, key)

    async def log_in(
        self, person: Person, device: accounts_pb2.Device | None = None, login_key: bytes | None = None
    ) -> accounts_pb2.LoginResponse:
        return await self.accounts.Login(
            accounts_pb2.LoginRequest(
                tenant=person.tenant,
                username=person.username,
                login_key=person.login_key if login_key is None else login_key,
                device=device,
            )
        )

    async def a_signed_in_user(self) -> SignedIn:
        return await self.signed_in(await self.a_user())

    async def a_template(self, tenant_id: str, name: str = "default", quota_bytes: int = 0) -> None:
        """A template of a tenant, on this world's cluster."""
        await self.setup.PutStorageCluster(
            admin_pb2.PutStorageClusterRequest(name=self.cluster, internal_endpoints=[self.nodes_endpoint])
        )
        await self.setup.PutTemplate(
            admin_pb2.PutTemplateRequest(
                template=profiles_pb2.Template(
                    name=name, cluster=self.cluster, copies=2, ack_copies=1, quota_bytes=quota_bytes
                ),
                tenant_id=tenant_id,
            )
        )

    async def a_vault(self, session: SignedIn, name: str = "") -> profiles_pb2.Vault:
        """A vault on the storage cluster."""
        await self.a_template(session.person.tenant_id)
        answer = await self.profiles.RequestVault(
            profiles_pb2.RequestVaultRequest(id=str(an_id()), name=name or a_name("vault"), template="default"),
            metadata=session.metadata,
        )
        return answer.vault


def a_device(key: Ed25519PrivateKey | None = None, *, append_only: bool = False, **fields: str) -> accounts_pb2.Device:
    public_key = (key or Ed25519PrivateKey.generate()).public_key().public_bytes_raw()
    values = {"id": str(an_id()), "name": "laptop", "platform": "linux", "client_version": "1.0", **fields}
    device = accounts_pb2.Device(public_key=public_key, append_only=append_only)
    for name, value in values.items():
        setattr(device, name, value)
    return device


class LetEverythingThrough:
    """A gate that checks nothing: whoever calls is `who`, an administrator and an operator as well."""

    def __init__(self, who: Caller) -> None:
        self.who = who

    async def caller(self, context: Context, need: object = None) -> Caller:
        del context, need
        return self.who

    async def guest(self, context: Context) -> str:
        del context
        return "anywhere"

    async def operator(self, context: Context) -> None:
        del context

    async def node(self, context: Context) -> None:
        del context


def as_caller(session: SignedIn, role: Role = Role.ADMIN) -> Caller:
    person = session.person
    device = UUID(session.device) if session.device else None
    return Caller(UUID(person.tenant_id), UUID(person.id), role, device, session.token)


@dataclass(frozen=True)
class Ground:
    """What worlds of one test module are built on."""

    database: DatabaseUrls
    redis_url: str
    certificates: Certificates

    @asynccontextmanager
    async def world(self, gate: Gate | None = None, clock: ManualClock | None = None) -> AsyncIterator[World]:
        """A running role; several on one ground are replicas of each other."""
        clock = clock or ManualClock()
        nodes = FewNodes()
        async with AsyncExitStack() as stack:
            buckets = Served(
                buckets_pb2_grpc.add_BucketServiceServicer_to_server, nodes, "oort.storage.v1.BucketService"
            )
            control = Served(
                sessions_pb2_grpc.add_SessionControlServiceServicer_to_server,
                nodes,
                "oort.storage.v1.SessionControlService",
            )
            protection = Served(
                protection_pb2_grpc.add_ProtectionServiceServicer_to_server, nodes, "oort.storage.v1.ProtectionService"
            )
            cluster = await stack.enter_async_context(
                serving("storage", self.certificates, internal=[buckets, control, protection])
            )
            db = await Database.open(self.database.app, self.database.worker, connections=4, wait_seconds=60)
            stack.push_async_callback(db.close)
            redis = Redis.from_url(self.redis_url)
            stack.push_async_callback(redis.aclose)
            settings = some_settings(ProcessSettings, "auth", self.certificates)
            storage = Storage(db, clock, partial(internal_channel, settings), 60)
            stack.push_async_callback(storage.close)
            auth = build(Foundation(db, redis, clock, PEPPER, TokenSigner(SIGNING_KEY), storage), gate)
            endpoints = await stack.enter_async_context(
                serving("auth", self.certificates, public=auth.public, internal=auth.internal, clock=clock)
            )
            channel = await stack.enter_async_context(endpoints.public_channel())
            operator = await stack.enter_async_context(endpoints.internal_channel("operator", "local"))
            yield World(endpoints, channel, operator, clock, redis, db, nodes, cluster.internal)


@dataclass
class Refusal:
    """What the caller was told, once it was refused."""

    details: str = ""


@contextmanager
def refused(*reasons: str) -> Iterator[Refusal]:
    """The call inside is refused for one of `reasons`, in a line that says something."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    assert reason_of(caught.value) in reasons, caught.value
    refusal.details = caught.value.details() or ""
    assert refusal.details


def ids_of(rows: Sequence[object]) -> list[str]:
    return [str(getattr(row, "id")) for row in rows]  # noqa: B009 - messages of several kinds
