"""A node that restics can reach, an auth that is small but a real server, and what a restic says over HTTPS."""

import base64
import io
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import grpc
import pytest
from oort.auth.v1 import rest_pb2, rest_pb2_grpc

from domain.names import ObjectKind, ObjectName
from domain.sessions import Scope
from domain.tokens import VaultClaims
from services.common.errors import NotSignedIn
from services.common.listeners import Served
from services.common.testing.server import serving
from services.storage.rest import access
from services.storage.rest.requests import VERSION_2
from services.storage.tests.cluster import Cluster, a_body, index, pack, snapshot


@dataclass
class Auth(rest_pb2_grpc.RestAccessServiceServicer):
    """What auth says of user names and passwords, and how often it was asked."""

    cluster: Cluster
    known: dict[tuple[str, str], VaultClaims] = field(default_factory=dict)
    asked: int = 0
    is_down: bool = False

    async def Exchange(self, request: rest_pb2.ExchangeRequest, context: Any) -> rest_pb2.ExchangeResponse:
        self.asked += 1
        if self.is_down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants")
        claims = self.known.get((request.username, request.password))
        if claims is None:
            raise NotSignedIn
        return rest_pb2.ExchangeResponse(token=self.cluster.token(claims))


@dataclass
class RestNode:
    """One node with its REST port."""

    cluster: Cluster
    auth: Auth
    endpoint: str

    @asynccontextmanager
    async def restic(self, claims: VaultClaims, *, append_only: bool = False) -> AsyncIterator["Restic"]:
        """A restic with a URL for the claims' bucket and device."""
        rights = {Scope.READ, Scope.APPEND} | (set() if append_only else {Scope.DELETE})
        username = f"{claims.device}{'+' if append_only else ''}"
        self.auth.known[username, "secret"] = replace(claims, scopes=frozenset(rights))
        async with self.as_user(username, "secret", f"/{claims.bucket}/") as restic:
            yield restic

    @asynccontextmanager
    async def as_user(self, username: str, password: str, path: str) -> AsyncIterator["Restic"]:
        context = ssl.create_default_context(cafile=str(self.cluster.certificates.ca))
        connector = aiohttp.TCPConnector(ssl=context)
        headers = {"Authorization": basic_auth(username, password)}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield Restic(session, f"https://{self.endpoint}{path}")


@asynccontextmanager
async def a_rest_node(
    cluster: Cluster, name: str = "a", *, limits: Mapping[str, float] | None = None, **others: Any
) -> AsyncIterator[RestNode]:
    """`limits` are settings that may be of a smaller size than an operator may give."""
    auth = Auth(cluster)
    service = Served(rest_pb2_grpc.add_RestAccessServiceServicer_to_server, auth, "oort.auth.v1.RestAccessService")
    async with serving("auth", cluster.certificates, internal=[service]) as endpoints:
        port = cluster.free_port()
        own = cluster.node(
            name,
            auth_server=endpoints.internal,
            rest_endpoint=f"localhost:{port}",
            rest_listen=f"127.0.0.1:{port}",
            **others,
        )
        cluster.settings[name] = own.model_copy(update=limits)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(access, "_ASK_SECONDS", 60)  # auth shares a loop with the node, on a busy machine
            async with cluster.up(name):
                yield RestNode(cluster, auth, f"localhost:{port}")


@dataclass(frozen=True)
class Answer:
    """`line` is the reason in the status line."""

    status: int
    line: str
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Restic:
    """Requests of one restic."""

    session: aiohttp.ClientSession
    url: str

    async def ask(self, method: str, path: str, **given: Any) -> Answer:
        async with self.session.request(method, self.url + path, **given) as answer:
            body = await answer.read()
            return Answer(answer.status, answer.reason or "", body, dict(answer.headers))

    async def put(self, name: ObjectName, body: bytes) -> int:
        return (await self.ask("POST", str(name), data=io.BytesIO(body))).status

    async def get(self, name: ObjectName, **headers: str) -> Answer:
        return await self.ask("GET", str(name), headers=headers)

    async def delete(self, name: ObjectName) -> Answer:
        return await self.ask("DELETE", str(name))

    async def names(self, kind: ObjectKind) -> set[str]:
        answer = await self.ask("GET", f"{kind}/", headers={"Accept": VERSION_2})
        assert (answer.status, answer.headers["Content-Type"]) == (200, VERSION_2)
        return {f"{kind}/{one['name']}" for one in answer.json()}

    async def lock(self) -> ObjectName:
        """Write a lock file."""
        body = a_body(150)
        name = ObjectName.of(ObjectKind.LOCK, body)
        assert await self.put(name, body) == 200
        return name

    async def store(self, name: ObjectName, body: bytes) -> ObjectName:
        assert await self.put(name, body) == 200
        return name

    async def initialise(self) -> None:
        key = a_body(300)
        assert (await self.ask("POST", "?create=true")).status == 200
        await self.store(ObjectName.of(ObjectKind.KEY, key), key)
        assert (await self.ask("POST", "config", data=b"config")).status == 200

    async def back_up(self) -> tuple[ObjectName, ObjectName, ObjectName]:
        """A pack, an index file and a snapshot, in the session of a lock."""
        bodies = a_body(), a_body(), a_body()
        made, listed, committed = pack(bodies[0]), index(bodies[1]), snapshot(bodies[2])
        for name, body in zip((made, listed, committed), bodies, strict=True):
            await self.store(name, body)
        return made, listed, committed


def basic_auth(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


async def let_pass(cluster: Cluster, minutes: int) -> None:
    """Locks and beats are so much older now, by the database's clock."""
    await cluster.change("update restic_locks set written = written - make_interval(mins => %s)", minutes)
    await cluster.change("update sessions set last_beat = last_beat - make_interval(mins => %s)", minutes)
