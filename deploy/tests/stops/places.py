"""Where vaults lie whose clients are stopped: folders of this machine, and buckets of a storage node.

Kept true: a vault is a copy of a prepared one, made of hard links and of rows of the catalogue; what it holds for
whoever opens it next is what the catalogue says, read from the disk.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import UUID, uuid4

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.stores.abc import ObjectStore
from client.stores.local import LocalStore
from client.stores.node import NodeStore, VaultAccess
from client.stores.tests.memory import MemoryStore
from domain.names import ObjectKind, ObjectName
from domain.sessions import Scope
from domain.tokens import VaultClaims
from services.common.database import Database
from services.common.testing import loops
from services.storage.sessions import lifecycle
from services.storage.tests.cluster import Cluster

_NODE = "a"
_MADE = """
insert into buckets (id, tenant_id, user_id, copies, ack_copies, quota_bytes, seq, objects, bytes)
values (%(id)s, %(t)s, %(u)s, 1, 1, 0, 1, %(objects)s, %(bytes)s)
"""
_HOME = "insert into homes (bucket_id, node_id, tenant_id, user_id) values (%(id)s, %(node)s, %(t)s, %(u)s)"
_ENTERED = """
insert into objects (bucket_id, tenant_id, user_id, created_seq, kind, sha256, size)
select %(id)s, %(t)s, %(u)s, 1, * from unnest(%(kinds)s::text[], %(digests)s::bytea[], %(sizes)s::bigint[])
"""


class KeptVault(Protocol):
    """A vault in its place: `store` as a client reaches it, `folder` the restic repository on the disk."""

    @property
    def store(self) -> ObjectStore: ...

    @property
    def folder(self) -> Path: ...

    def at_rest(self) -> MemoryStore:
        """What whoever opens a session now sees, without asking for it over the network."""

    def grow_old(self) -> None:
        """Let so much time pass that a client that has gone silent is waited for no longer."""


class StoppingPlace(Protocol):
    """Takes any number of vaults, each for a while; where it `is_quick`, a call costs next to nothing."""

    @property
    def is_quick(self) -> bool: ...

    def copied(self, prepared: Path) -> AbstractContextManager[KeptVault]:
        """A vault of the same content as the one in a folder."""


@dataclass(frozen=True)
class KeptFolder:
    folder: Path

    @property
    def store(self) -> ObjectStore:
        return LocalStore(self.folder)

    def at_rest(self) -> MemoryStore:
        return _in_memory(dict(_objects_in(self.folder)))

    def grow_old(self) -> None:
        """What is waited for here is a lock; who is stopped has a clock by which it is an old one."""


@dataclass(frozen=True)
class Folders:
    top: Path
    is_quick: ClassVar[bool] = True

    @contextmanager
    def copied(self, prepared: Path) -> Iterator[KeptFolder]:
        folder = self.top / uuid4().hex
        shutil.copytree(prepared, folder, copy_function=os.link)
        yield KeptFolder(folder)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class KeptBucket:
    node: "RunningNode"
    bucket: UUID
    store: NodeStore

    @property
    def folder(self) -> Path:
        return self.node.cluster.bucket_folder(_NODE, self.bucket)

    def at_rest(self) -> MemoryStore:
        statement = "select kind, encode(sha256, 'hex') from objects where bucket_id = %s and state = 'live'"
        live = (
            ObjectName(ObjectKind(kind), "" if ObjectKind(kind).is_root_file else digest)
            for kind, digest in self.node.catalogue.execute(statement, (self.bucket,))
        )
        return _in_memory({name: (self.folder / name.path).read_bytes() for name in live})

    def grow_old(self) -> None:
        """The database's clock decides, so it is the last beat that is set back."""
        statement = "update sessions set last_beat = last_beat - interval '1 day' where bucket_id = %s"
        self.node.catalogue.execute(statement, (self.bucket,))
        self.node.end_silent()


@dataclass(frozen=True)
class RunningNode:
    """A node in a thread of this process, whose clients never beat while a test runs; `catalogue` sees all tenants."""

    cluster: Cluster
    loop: asyncio.AbstractEventLoop
    database: Database
    catalogue: psycopg.Connection[Any]
    is_quick: ClassVar[bool] = False

    def end_silent(self) -> None:
        settings = self.cluster.settings[_NODE]
        ending = lifecycle.end_silent(self.database, settings.silence, settings.session_max_age)
        asyncio.run_coroutine_threadsafe(ending, self.loop).result()

    @contextmanager
    def copied(self, prepared: Path) -> Iterator[KeptBucket]:
        key = Ed25519PrivateKey.generate()
        claims = VaultClaims(
            uuid4(), uuid4(), uuid4(), uuid4(), "local", frozenset(Scope), 0, key.public_key().public_bytes_raw()
        )
        access = VaultAccess(
            self.cluster.token(claims), (self.cluster.settings[_NODE].public_endpoint,), frozenset(Scope)
        )
        store = NodeStore(
            bucket=claims.bucket,
            place="The storage",
            source=lambda _scopes: access,
            device_key=key,
            ca_pem=self.cluster.certificates.ca.read_bytes(),
            ca_file="ca.pem",
        )
        with closing(store):
            kept = KeptBucket(self, claims.bucket, store)
            shutil.copytree(prepared, kept.folder, copy_function=os.link)
            self._enter(claims, kept.folder)
            yield kept
        shutil.rmtree(kept.folder)

    def _enter(self, claims: VaultClaims, folder: Path) -> None:
        """Enter what lies in a bucket's folder in the catalogue, as if it had been put long ago."""
        ids = {"id": claims.bucket, "t": claims.tenant, "u": claims.user}
        objects = dict(_objects_in(folder))
        kinds = [name.kind.value for name in objects]
        digests = [sha256(body).digest() for body in objects.values()]
        sizes = [len(body) for body in objects.values()]
        self.catalogue.execute(_MADE, {**ids, "objects": len(objects), "bytes": sum(sizes)})
        self.catalogue.execute(_HOME, {**ids, "node": _NODE})
        self.catalogue.execute(_ENTERED, {**ids, "kinds": kinds, "digests": digests, "sizes": sizes})


def _objects_in(folder: Path) -> Iterator[tuple[ObjectName, bytes]]:
    """What lies in a repository, but for temporary files."""
    for path in folder.rglob("*"):
        kind = path.relative_to(folder).parts[0]
        if path.is_file() and kind != "tmp":
            name = ObjectName(ObjectKind(kind), "" if ObjectKind(kind).is_root_file else path.name)
            yield name, path.read_bytes()


def _in_memory(objects: dict[ObjectName, bytes]) -> MemoryStore:
    store = MemoryStore()
    store.objects = objects
    return store


@contextmanager
def a_node(cluster: Cluster) -> Iterator[RunningNode]:
    """A running node of a cluster; what nodes do beside answering is left out, as far as that can be set."""
    seldom = dict.fromkeys(("beat_seconds", "node_beat_seconds", "replication_poll_seconds"), 300)
    cluster.node(_NODE, **seldom, node_silent_seconds=3600)
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Database]] = Future()

    async def serve() -> None:
        ending = asyncio.Event()
        async with cluster.up(_NODE) as [database]:
            ready.set_result((asyncio.get_running_loop(), ending, database))
            await ending.wait()

    def tell(served: "Future[None]") -> None:
        if not ready.done():
            ready.set_exception(served.exception() or AssertionError("the node did not start"))

    with ThreadPoolExecutor(1) as thread:
        served = thread.submit(loops.run, serve())
        served.add_done_callback(tell)
        loop, ending, database = ready.result()
        try:
            with psycopg.connect(cluster.database.worker, autocommit=True) as catalogue:
                yield RunningNode(cluster, loop, database, catalogue)
        finally:
            loop.call_soon_threadsafe(ending.set)
            served.result()
