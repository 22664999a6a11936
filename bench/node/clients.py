"""Clients that do nothing but put and get: each with a connection of its own, all in one event loop.

Kept true: of ours, the bytes on the wire are those of `backup-tool` (TLS, a token, a session that beats, frames of its
length); rclone's get the same objects by plain HTTP, as restic sends them.
"""

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.storage.v1 import objects_pb2, sessions_pb2, sessions_pb2_grpc

from bench.measure import NotMeasured
from bench.node.bodies import Bodies, Body
from client.rpc import CHANNEL_OPTIONS
from client.stores.node.wire import decode_get, encode_put
from domain.ids import uuid7
from domain.sessions import Purpose, opening_statement

_PUT = "/oort.storage.v1.ObjectService/Put"
_GET = "/oort.storage.v1.ObjectService/Get"
_CALL_SECONDS = 60
_BODY_SECONDS = 900


class Client(ABC):
    """One client of a server."""

    @abstractmethod
    async def put(self, bodies: Bodies, body: Body) -> None: ...

    @abstractmethod
    async def get(self, bodies: Bodies, body: Body) -> None:
        """Read and compare. Raises NotMeasured for other bytes."""

    @abstractmethod
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Node:
    """What a client must know of the node and of its bucket there; `token` answers one that counts."""

    endpoint: str
    ca_pem: bytes
    bucket: str
    device_key: Ed25519PrivateKey
    token: Callable[[], str]


class OortClient(Client):
    """A session on a bucket, kept alive by beats."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._session = str(uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)))
        credentials = grpc.ssl_channel_credentials(root_certificates=node.ca_pem)
        self._channel = grpc.aio.secure_channel(node.endpoint, credentials, options=CHANNEL_OPTIONS)
        self._sessions: sessions_pb2_grpc.SessionServiceAsyncStub = sessions_pb2_grpc.SessionServiceStub(self._channel)
        self._put = self._channel.stream_unary(
            _PUT, request_serializer=encode_put, response_deserializer=objects_pb2.PutResponse.FromString
        )
        self._get = self._channel.unary_stream(
            _GET, request_serializer=objects_pb2.GetRequest.SerializeToString, response_deserializer=decode_get
        )
        self._beats: asyncio.Task[None] | None = None

    async def open(self) -> tuple[str, ...]:
        """Open the session; answers the nodes that hold the bucket."""
        statement = opening_statement(self._session, self.node.bucket, Purpose.BACKUP, "")
        request = sessions_pb2.OpenRequest(
            session_id=self._session,
            purpose=Purpose.BACKUP.value,
            device_signature=self.node.device_key.sign(statement),
        )
        opened = await self._sessions.Open(request, timeout=_CALL_SECONDS, metadata=self._metadata)
        self._beats = asyncio.create_task(self._beat(opened.beat_interval.ToTimedelta().total_seconds()))
        return tuple(opened.homes)

    async def put(self, bodies: Bodies, body: Body) -> None:
        async def parts() -> AsyncIterator[objects_pb2.PutHeader | memoryview]:
            yield objects_pb2.PutHeader(session_id=self._session, name=f"data/{body.id}", size=bodies.size)
            for frame in bodies.frames(body):
                yield frame

        answer = await self._put(parts(), timeout=_BODY_SECONDS, metadata=self._metadata)
        if answer.copies != 1:
            raise NotMeasured(f"object {body.id} was stored {answer.copies} times and not once")

    async def get(self, bodies: Bodies, body: Body) -> None:
        request = objects_pb2.GetRequest(session_id=self._session, name=f"data/{body.id}")
        returned = bodies.returned(body)
        async for frame in self._get(request, timeout=_BODY_SECONDS, metadata=self._metadata):
            returned.take(frame)
        returned.end()

    async def wait(self, seconds: float) -> None:
        """Stay, and do nothing but beat. Raises what a beat met with."""
        if self._beats is None:
            raise AssertionError("the session has not been opened")
        done, _ = await asyncio.wait([self._beats], timeout=seconds)
        for ended in done:
            ended.result()

    async def close(self) -> None:
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.wait([self._beats])
            request = sessions_pb2.EndRequest(session_id=self._session)
            await self._sessions.End(request, timeout=_CALL_SECONDS, metadata=self._metadata)
        await self._channel.close()

    @property
    def _metadata(self) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self.node.token()}"),)

    async def _beat(self, seconds: float) -> None:
        request = sessions_pb2.BeatRequest(session_id=self._session)
        while True:
            await asyncio.sleep(seconds)
            await self._sessions.Beat(request, timeout=_CALL_SECONDS, metadata=self._metadata)


class ResticClient(Client):
    """restic's REST protocol, version 2, on a server at `url`; data alone."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1), timeout=aiohttp.ClientTimeout(_BODY_SECONDS), raise_for_status=True
        )

    async def create(self) -> None:
        """Make the repository."""
        async with self._http.post(self._url, params={"create": "true"}):
            pass

    async def put(self, bodies: Bodies, body: Body) -> None:
        async def frames() -> AsyncIterator[memoryview]:
            for frame in bodies.frames(body):
                yield frame

        headers = {"Content-Length": str(bodies.size)}
        async with self._http.post(f"{self._url}data/{body.id}", data=frames(), headers=headers):
            pass

    async def get(self, bodies: Bodies, body: Body) -> None:
        returned = bodies.returned(body)
        async with self._http.get(f"{self._url}data/{body.id}") as answer:
            async for piece in answer.content.iter_any():
                returned.take(memoryview(piece))
        returned.end()

    async def close(self) -> None:
        await self._http.close()
