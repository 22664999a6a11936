"""A cluster for tests: nodes on loopback with TLS, in this process or in processes of their own, and a client."""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oort.storage.v1 import (
    buckets_pb2,
    buckets_pb2_grpc,
    objects_pb2,
    objects_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

from domain.ids import uuid7
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope, opening_statement
from domain.tokens import ALGORITHM, AUDIENCE, ISSUER, VaultClaims, key_id
from services.common import jobs
from services.common.clock import SystemClock
from services.common.database import Database
from services.common.identity import OPERATOR
from services.common.interceptors import MapErrors, MeasureCalls
from services.common.listeners import internal_credentials, listen, public_credentials
from services.common.metrics import Metrics
from services.common.process import Runtime
from services.common.provision import DatabaseUrls
from services.common.rpc import CHANNEL_OPTIONS
from services.common.testing.server import Certificates, some_settings
from services.storage.__main__ import wire
from services.storage.access.gate import Gate
from services.storage.settings import StorageSettings
from services.storage.volumes import marker

FRAME = 1 << 20
OWN_FILES = frozenset(("lock", marker.NAME))
_ROOT = Path(__file__).parents[3]
# Longer than a busy machine stands still. Where a node is to count as down, `falls_silent` says so.
SILENT_SECONDS = 60
# Three missed beats end a session, and no client here beats; nor does any send on what a test holds back.
BEAT_SECONDS = STALL_SECONDS = 3600


@asynccontextmanager
async def serving(settings: StorageSettings, gate: Gate | None = None) -> AsyncIterator[Database]:
    """One node in this process, as services.common.process serves it, without its lease and metrics port."""
    async with AsyncExitStack() as stack:
        # Long, as below: on a busy machine no call of a test is to be refused for it.
        db = await Database.open(settings.database_url, settings.database_worker_url, wait_seconds=60)
        stack.push_async_callback(db.close)
        metrics = Metrics("storage", settings.instance, "test")
        clock = SystemClock()
        parts = await stack.enter_async_context(
            # Long: client and node share a loop here, which is late for its own answers now and then.
            wire(Runtime("storage", settings, db, clock, metrics, asyncio.Event()), gate, redis_patience=30)
        )
        measure = MeasureCalls(metrics, clock)
        around_internal = (measure, MapErrors("storage", metrics, "internal"))
        around_public = (measure, MapErrors("storage", metrics, "public"), *parts.around_public)
        inside = await listen(settings.internal_listen, internal_credentials(settings), parts.internal, around_internal)
        stack.push_async_callback(inside.drain, 0)
        outside = await listen(settings.public_listen, public_credentials(settings), parts.public, around_public)
        stack.push_async_callback(outside.drain, 0)
        tasks = [asyncio.ensure_future(job()) for job in parts.background]
        try:
            yield db
        finally:
            await jobs.cancel(tasks)


@dataclass
class Cluster:
    """Its database, its token key, and where its nodes keep their data."""

    database: DatabaseUrls
    certificates: Certificates
    folder: Path
    free_port: Callable[[], int]
    token_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    settings: dict[str, StorageSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.folder / "token-keys"
        keys.mkdir()
        public = self.token_key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (keys / "auth.pem").write_bytes(pem)

    def node(self, name: str, **others: Any) -> StorageSettings:
        """Settings of a node; the same ports and folder each time."""
        if name not in self.settings:
            public, internal = self.free_port(), self.free_port()
            values: dict[str, Any] = {
                "instance": name,
                "public_listen": f"127.0.0.1:{public}",
                "internal_listen": f"127.0.0.1:{internal}",
                "public_endpoint": f"localhost:{public}",
                "internal_endpoint": f"localhost:{internal}",
                "license_server": "localhost:1",
                "license_key": self.certificates.ca,
                "license_file": self.folder / "oort-license.db",
                "serial": "none",
                "data_dirs": [self.folder / name],
                "token_keys": self.folder / "token-keys",
                "low_water_bytes": 0,
                "beat_seconds": BEAT_SECONDS,
                "stall_seconds": STALL_SECONDS,
                "node_beat_seconds": 0.2,
                "node_silent_seconds": SILENT_SECONDS,
                "copy_stall_seconds": 60,
                "replication_poll_seconds": 0.05,
                "reap_seconds": 3600,
                **others,
            }
            self.settings[name] = some_settings(StorageSettings, "storage", self.certificates, self.database, **values)
        return self.settings[name]

    @asynccontextmanager
    async def up(self, *names: str, gate: Gate | None = None) -> AsyncIterator[list[Database]]:
        """Nodes in this process."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(serving(self.node(name), gate)) for name in names]

    def bucket_folder(self, node: str, bucket: UUID) -> Path:
        return self.settings[node].data_dirs[0] / "buckets" / str(bucket)

    def files(self, node: str) -> list[str]:
        """Every file below a node's data folder but its lock, its marker, and its notes of what was cleared."""
        top = self.settings[node].data_dirs[0]
        own = OWN_FILES | {"cleared"}
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and path.name not in own)

    def token(self, claims: VaultClaims, *, expires: timedelta = timedelta(minutes=15), **others: Any) -> str:
        key = others.pop("key", self.token_key)
        now = datetime.now(UTC)
        payload = {**claims.to_payload(), "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + expires, **others}
        kid = key_id(key.public_key().public_bytes_raw())
        return jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": kid})

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask as the worker, who sees all."""
        with psycopg.connect(self.database.worker) as connection:
            connection.read_only = True
            return connection.execute(query, parameters).fetchall()

    async def change(self, statement: str, *parameters: object) -> None:
        """Run a statement as the worker.

        In a thread: a node of this loop may have the rows locked, in a transaction that has to go on.
        """

        def run() -> None:
            with psycopg.connect(self.database.worker) as connection:
                connection.execute(statement, parameters)

        await asyncio.to_thread(run)

    async def falls_silent(self, node: str) -> None:
        """A node that has ended counts as down from now on."""
        await self.change("update nodes set last_seen = to_timestamp(0) where id = %s", node)

    async def bucket(
        self, node: str, *, copies: int = 1, ack_copies: int = 1, quota_bytes: int = 0, **ids: UUID
    ) -> VaultClaims:
        """A bucket, and claims of a device that may read and append."""
        claims = a_device(**ids)
        asked = buckets_pb2.Bucket(
            id=str(claims.bucket),
            tenant_id=str(claims.tenant),
            user_id=str(claims.user),
            copies=copies,
            ack_copies=ack_copies,
            quota_bytes=quota_bytes,
        )
        async with self.internal(node) as channel:
            stub = buckets_pb2_grpc.BucketServiceStub(channel)
            await stub.CreateBucket(buckets_pb2.CreateBucketRequest(bucket=asked))
        return claims

    @asynccontextmanager
    async def internal(
        self, node: str, role: str = OPERATOR, instance: str = "local"
    ) -> AsyncIterator[grpc.aio.Channel]:
        certificate, key = self.certificates.certificate(role, instance)
        credentials = grpc.ssl_channel_credentials(
            self.certificates.ca.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        endpoint = self.settings[node].internal_endpoint
        async with grpc.aio.secure_channel(endpoint, credentials, CHANNEL_OPTIONS) as channel:
            yield channel

    async def describe(self, node: str) -> buckets_pb2.DescribeClusterResponse:
        async with self.internal(node) as channel:
            stub = buckets_pb2_grpc.BucketServiceStub(channel)
            return await stub.DescribeCluster(buckets_pb2.DescribeClusterRequest())

    @asynccontextmanager
    async def client(self, node: str, claims: VaultClaims, **token: Any) -> AsyncIterator["Client"]:
        credentials = grpc.ssl_channel_credentials(self.certificates.ca.read_bytes())
        endpoint = self.settings[node].public_endpoint
        async with grpc.aio.secure_channel(endpoint, credentials, CHANNEL_OPTIONS) as channel:
            yield Client(channel, claims, self.token(claims, **token))


_DEVICE_KEYS: dict[bytes, Ed25519PrivateKey] = {}


def a_device(**ids: UUID) -> VaultClaims:
    """Claims that allow to read and append; ids that are not given are new."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    _DEVICE_KEYS[public] = key
    return VaultClaims(
        tenant=ids.get("tenant") or uuid4(),
        user=ids.get("user") or uuid4(),
        device=ids.get("device") or uuid4(),
        bucket=ids.get("bucket") or uuid4(),
        cluster="local",
        scopes=frozenset((Scope.READ, Scope.APPEND)),
        quota_bytes=0,
        device_key=public,
    )


def a_session_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def a_body(size: int = 1000) -> bytes:
    return secrets.token_bytes(size)


def pack(body: bytes) -> ObjectName:
    return ObjectName.of(ObjectKind.PACK, body)


def index(body: bytes) -> ObjectName:
    return ObjectName.of(ObjectKind.INDEX, body)


def snapshot(body: bytes) -> ObjectName:
    return ObjectName.of(ObjectKind.SNAPSHOT, body)


@dataclass
class Client:
    """What a client says to one node, with one token."""

    channel: grpc.aio.Channel
    claims: VaultClaims
    token: str

    def __post_init__(self) -> None:
        self.sessions = sessions_pb2_grpc.SessionServiceStub(self.channel)
        self.objects = objects_pb2_grpc.ObjectServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {self.token}"),)

    async def open(
        self,
        purpose: Purpose = Purpose.BACKUP,
        parent: ObjectName | None = None,
        *,
        session: UUID | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> UUID:
        session = session or a_session_id()
        await self.open_raw(session, purpose, parent, key)
        return session

    async def open_raw(
        self, session: UUID, purpose: Purpose, parent: ObjectName | None, key: Ed25519PrivateKey | None = None
    ) -> sessions_pb2.OpenResponse:
        parent_id = parent.id if parent else ""
        key = key or _DEVICE_KEYS[self.claims.device_key]
        statement = opening_statement(str(session), str(self.claims.bucket), purpose, parent_id)
        request = sessions_pb2.OpenRequest(
            session_id=str(session), purpose=purpose, parent=parent_id, device_signature=key.sign(statement)
        )
        return await self.sessions.Open(request, metadata=self.metadata)

    async def beat(self, session: UUID) -> None:
        await self.sessions.Beat(sessions_pb2.BeatRequest(session_id=str(session)), metadata=self.metadata)

    async def end(self, session: UUID) -> None:
        await self.sessions.End(sessions_pb2.EndRequest(session_id=str(session)), metadata=self.metadata)

    async def reserve(self, session: UUID, *packs: ObjectName) -> list[str]:
        request = sessions_pb2.ReserveRequest(session_id=str(session), names=map(str, packs))
        return list((await self.sessions.Reserve(request, metadata=self.metadata)).gone)

    async def initialise(self, session: UUID, body: bytes = b"config", seal: bytes = b"seal") -> bool:
        key = b"key of " + body
        request = objects_pb2.InitialiseRequest(
            session_id=str(session),
            key_name=str(ObjectName.of(ObjectKind.KEY, key)),
            key=key,
            config=body,
            seal=seal,
        )
        return (await self.objects.Initialise(request, metadata=self.metadata)).created

    async def replace_seal(self, session: UUID, seal: bytes, former: bytes | None = b"seal") -> None:
        """Of the one with the content `former`; None: there is none."""
        digest = b"" if former is None else sha256(former).digest()
        request = objects_pb2.ReplaceSealRequest(session_id=str(session), seal=seal, replaces_sha256=digest)
        await self.objects.ReplaceSeal(request, metadata=self.metadata)

    async def put(
        self, session: UUID, name: ObjectName, body: bytes, packs: Sequence[ObjectName] = (), size: int | None = None
    ) -> objects_pb2.PutResponse:
        header = objects_pb2.PutHeader(
            session_id=str(session), name=str(name), size=len(body) if size is None else size, packs=map(str, packs)
        )
        return await self.objects.Put(_put_requests(header, body), metadata=self.metadata)

    async def put_pack(self, session: UUID, body: bytes) -> ObjectName:
        await self.put(session, pack(body), body)
        return pack(body)

    async def put_index(self, session: UUID, packs: Sequence[ObjectName], body: bytes = b"") -> ObjectName:
        body = body or a_body()
        await self.put(session, index(body), body, packs)
        return index(body)

    async def commit(self, session: UUID, body: bytes) -> ObjectName:
        name = snapshot(body)
        request = sessions_pb2.CommitRequest(session_id=str(session), name=str(name), body=body)
        await self.sessions.Commit(request, metadata=self.metadata)
        return name

    async def remove(self, session: UUID, name: ObjectName) -> None:
        request = sessions_pb2.RemoveRequest(session_id=str(session), name=str(name))
        await self.sessions.Remove(request, metadata=self.metadata)

    async def mark(self, session: UUID, mark_id: UUID | None = None) -> int:
        return (await self.marked(session, mark_id)).mark_seq

    async def marked(self, session: UUID, mark_id: UUID | None = None) -> sessions_pb2.MarkResponse:
        request = sessions_pb2.MarkRequest(session_id=str(session), mark_id=str(mark_id or uuid4()))
        return await self.sessions.Mark(request, metadata=self.metadata)

    async def condemn(self, session: UUID, *names: ObjectName) -> dict[str, str]:
        """What stays, with the reason."""
        request = sessions_pb2.CondemnRequest(session_id=str(session), names=map(str, names))
        answer = await self.sessions.Condemn(request, metadata=self.metadata)
        return {one.name: one.reason for one in answer.refused}

    async def basket(self, session: UUID, kind: ObjectKind) -> set[str]:
        """What is condemned."""
        request = objects_pb2.ListRequest(session_id=str(session), kind=kind, page_size=1000, condemned=True)
        answer = await self.objects.List(request, metadata=self.metadata)
        assert all(one.HasField("condemned") for one in answer.objects)
        return {one.name for one in answer.objects}

    async def get(self, session: UUID, name: ObjectName, offset: int = 0, length: int = 0) -> bytes:
        request = objects_pb2.GetRequest(session_id=str(session), name=str(name), offset=offset, length=length)
        return b"".join([part.frame async for part in self.objects.Get(request, metadata=self.metadata)])

    async def list(self, session: UUID, kind: ObjectKind, page_size: int = 0) -> list[objects_pb2.ObjectInfo]:
        found: list[objects_pb2.ObjectInfo] = []
        token = ""
        while True:
            request = objects_pb2.ListRequest(session_id=str(session), kind=kind, page_size=page_size, page_token=token)
            answer = await self.objects.List(request, metadata=self.metadata)
            found += answer.objects
            token = answer.next_page_token
            if not token:
                return found

    async def names(self, session: UUID, kind: ObjectKind) -> set[str]:
        return {one.name for one in await self.list(session, kind)}


def _put_requests(header: objects_pb2.PutHeader, body: bytes) -> Iterator[objects_pb2.PutRequest]:
    yield objects_pb2.PutRequest(header=header)
    for start in range(0, len(body), FRAME):
        yield objects_pb2.PutRequest(frame=body[start : start + FRAME])


@dataclass
class NodeProcess:
    """A node in a process of its own."""

    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


async def start_node(cluster: Cluster, name: str) -> NodeProcess:
    """Start a node and wait until it serves."""
    settings = cluster.node(name)
    values = {
        f"OORT_{key.upper()}": (" " if key == "data_stores" else ":").join(map(str, value))
        if isinstance(value, list)
        else str(value)
        for key, value in settings.model_dump().items()
        if value is not None
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-m",
        "services.storage.tests.node",
        cwd=_ROOT,
        env={**os.environ, **values},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 180)
    if line != b"serving\n":
        await NodeProcess(process).stop()
        raise AssertionError(line)
    return NodeProcess(process)
