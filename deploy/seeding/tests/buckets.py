"""Buckets of a running node, and repositories in folders whose packs, index files and snapshots hold random bytes."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc

from client.account.vaults import SealFile
from client.rpc import Pacing
from client.stores.local import LocalStore
from client.stores.node import NodeStore, VaultAccess
from client.vault.repository import create_vault
from deploy.local.cluster import Cluster
from deploy.seeding.adoption import Adopted, adopt
from deploy.seeding.export import Moved, export
from deploy.seeding.intake import take_in
from deploy.seeding.session import BucketSession
from deploy.tests.stops.places import RunningNode
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims

_USER = uuid4()  # of every bucket, and of the seals
_AT_ONCE = Pacing(patience=0)
_KINDS = (ObjectKind.PACK, ObjectKind.PACK, ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)


def nothing(_moved: Moved) -> None:
    """Who hears how far it is, and does not care."""


@dataclass(frozen=True)
class Nodes:
    running: RunningNode
    cluster: Cluster

    def bucket(self, quota_bytes: int = 0) -> "Bucket":
        asked = buckets_pb2.Bucket(
            id=str(uuid4()),
            tenant_id=str(uuid4()),
            user_id=str(_USER),
            copies=1,
            ack_copies=1,
            quota_bytes=quota_bytes,
        )
        request = buckets_pb2.CreateBucketRequest(bucket=asked)
        self.cluster.ask(lambda channel: buckets_pb2_grpc.BucketServiceStub(channel).CreateBucket(request, timeout=30))
        return Bucket(self, asked)


@dataclass(frozen=True)
class Bucket:
    nodes: Nodes
    asked: buckets_pb2.Bucket

    @property
    def id(self) -> str:
        return self.asked.id

    @property
    def folder(self) -> Path:
        return self.nodes.running.cluster.settings["a"].data_dirs[0] / "buckets" / self.id

    def files(self) -> dict[str, bytes]:
        return files(self.folder)

    def take_in(self, path: Path) -> Moved:
        with BucketSession.open(self.nodes.cluster, self.id, Purpose.ADOPT, pacing=_AT_ONCE) as session:
            return take_in(session, path, nothing)

    def adopt(self, *nodes: str, told: Callable[[Moved], None] = nothing) -> Adopted:
        with BucketSession.open(self.nodes.cluster, self.id, Purpose.ADOPT, pacing=_AT_ONCE) as session:
            return adopt(session, nodes, told)

    def export(self, path: Path, told: Callable[[Moved], None] = nothing) -> Moved:
        with BucketSession.open(self.nodes.cluster, self.id, Purpose.READ, pacing=_AT_ONCE) as session:
            return export(session, path, told)

    def open_sessions(self) -> int:
        statement = "select 1 from sessions where bucket_id = %s and ended_seq is null"
        return len(self.nodes.running.catalogue.execute(statement, (self.id,)).fetchall())

    @contextmanager
    def device(self) -> Iterator[NodeStore]:
        """As a device that may do all sees it."""
        key, asked, cluster = Ed25519PrivateKey.generate(), self.asked, self.nodes.running.cluster
        ids = (UUID(asked.tenant_id), UUID(asked.user_id), uuid4(), UUID(asked.id))
        claims = VaultClaims(*ids, "local", frozenset(Scope), 0, key.public_key().public_bytes_raw())
        access = VaultAccess(cluster.token(claims), (cluster.settings["a"].public_endpoint,), frozenset(Scope))
        store = NodeStore(
            bucket=claims.bucket,
            place="The storage",
            source=lambda _scopes: access,
            device_key=key,
            ca_pem=cluster.certificates.ca.read_bytes(),
            ca_file="ca.pem",
        )
        with closing(store):
            yield store


def a_repository(path: Path, user: UUID = _USER) -> Path:
    """One with a seal, three packs (one of several frames), an index file and a snapshot."""
    with LocalStore(path).open(Purpose.ADOPT) as session:
        seal = SealFile(user, str(uuid4()), b"sealed").to_bytes()
        assert create_vault(session, secrets.token_hex(32), seal) is not None
        for number, kind in enumerate(_KINDS):
            body = os.urandom(2_500_000 if number == 1 else 1000)
            session.put(ObjectName.of(kind, body), body)
    return path


def files(path: Path) -> dict[str, bytes]:
    """What lies in a repository."""
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}
