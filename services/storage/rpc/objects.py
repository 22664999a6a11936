"""ObjectService: unpack, pass the gate, call, pack. Put and Get carry their frames as bytes (frames.py)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from hashlib import sha256
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from oort.storage.v1 import objects_pb2

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Scope
from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.listeners import Served
from services.common.messages import timestamp_of, uuid_of
from services.common.paging import page_of
from services.storage.access.gate import Gate
from services.storage.sessions import lifecycle
from services.storage.transfer.frames import Frame, read_put
from services.storage.transfer.gets import Gets
from services.storage.transfer.names import name_of, pack_names
from services.storage.transfer.puts import Put, Puts
from services.storage.transfer.streams import Streams

Context = grpc.aio.ServicerContext[Any, Any]
NAME = objects_pb2.DESCRIPTOR.services_by_name["ObjectService"].full_name
# What is put one by one: the others have calls of their own, and the storage role needs no locks.
_PUT_KINDS = frozenset((ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.KEY))
# 71 bytes each, so that a header stays far below the limit of a message.
MAX_INDEX_PACKS = 40_000
_LARGEST_SEAL = 64 << 10


class ObjectsRpc:
    def __init__(self, gate: Gate, db: Database, puts: Puts, gets: Gets, streams: Streams) -> None:
        self._gate = gate
        self._db = db
        self._puts = puts
        self._gets = gets
        self._streams = streams

    def served(self) -> Served:
        """The service with its handlers."""
        return Served(self._add, self, NAME)

    def _add(self, _servicer: Any, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Initialise": grpc.unary_unary_rpc_method_handler(
                self.initialise,
                objects_pb2.InitialiseRequest.FromString,
                objects_pb2.InitialiseResponse.SerializeToString,
            ),
            "ReplaceSeal": grpc.unary_unary_rpc_method_handler(
                self.replace_seal,
                objects_pb2.ReplaceSealRequest.FromString,
                objects_pb2.ReplaceSealResponse.SerializeToString,
            ),
            "Put": grpc.stream_unary_rpc_method_handler(self.put, None, objects_pb2.PutResponse.SerializeToString),
            "Get": grpc.unary_stream_rpc_method_handler(self.get, objects_pb2.GetRequest.FromString, None),
            "List": grpc.unary_unary_rpc_method_handler(
                self.list, objects_pb2.ListRequest.FromString, objects_pb2.ListResponse.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async def initialise(
        self, request: objects_pb2.InitialiseRequest, context: Context
    ) -> objects_pb2.InitialiseResponse:
        claims = self._gate.require(context, Scope.APPEND)
        session = uuid_of(request.session_id, "session_id")
        key = name_of(request.key_name)
        if key.kind is not ObjectKind.KEY:
            raise InvalidArgument(detail="key_name is keys/SHA-256.")
        if not request.config or not request.key:
            raise InvalidArgument(detail="A vault begins with a key and a config.")
        wanted = [(key, request.key), (CONFIG, request.config), *([(SEAL, request.seal)] if request.seal else [])]
        bodies = [
            (Put(claims, session, name, bytes.fromhex(name.id) or sha256(body).digest(), len(body)), body)
            for name, body in wanted
        ]
        created = await self._puts.initialise(claims, session, bodies)
        return objects_pb2.InitialiseResponse(created=created)

    async def replace_seal(
        self, request: objects_pb2.ReplaceSealRequest, context: Context
    ) -> objects_pb2.ReplaceSealResponse:
        # For a first one; whoever replaces one needs more.
        claims = self._gate.require(context, Scope.APPEND)
        if not 0 < len(request.seal) <= _LARGEST_SEAL:
            raise InvalidArgument(detail=f"A seal has 1 to {_LARGEST_SEAL} bytes.")
        if len(request.replaces_sha256) not in (0, sha256().digest_size):
            raise InvalidArgument(detail="replaces_sha256 has 32 bytes, or none if there is no seal.")
        session = uuid_of(request.session_id, "session_id")
        put = Put(claims, session, SEAL, sha256(request.seal).digest(), len(request.seal))
        await self._puts.replace_seal(put, request.seal, request.replaces_sha256)
        return objects_pb2.ReplaceSealResponse()

    async def put(self, _requests: object, context: Context) -> objects_pb2.PutResponse:
        claims = self._gate.require(context, Scope.APPEND)
        with self._streams.one():
            frames = self._frames(context)
            header = await self._header(context)
            name = name_of(header.name)
            if name.kind not in _PUT_KINDS:
                raise InvalidArgument(detail=f"{name} is not stored by Put: packs, index files and keys are.")
            packs = pack_names(header.packs, "packs", MAX_INDEX_PACKS)
            session = uuid_of(header.session_id, "session_id")
            put = Put(claims, session, name, bytes.fromhex(name.id), header.size, packs)
            async with aclosing(frames):
                stored = await self._puts.put(put, frames)
            self._streams.count_in(0 if stored.existed else header.size)
            return objects_pb2.PutResponse(existed=stored.existed, copies=stored.copies)

    async def get(self, request: objects_pb2.GetRequest, context: Context) -> None:
        claims = self._gate.require(context, Scope.READ)
        session, name = uuid_of(request.session_id, "session_id"), name_of(request.name)
        with self._streams.one():
            messages = self._gets.get(claims, session, name, request.offset, request.length)
            async with aclosing(messages):
                async for message in messages:
                    await self._streams.patiently(context.write(message))
                    self._streams.count_out(len(message))

    async def list(self, request: objects_pb2.ListRequest, context: Context) -> objects_pb2.ListResponse:
        claims = self._gate.require(context, Scope.READ)
        try:
            kind = ObjectKind(request.kind)
        except ValueError:
            raise InvalidArgument(detail=f"kind is one of {', '.join(ObjectKind)}.") from None
        page = page_of(request)
        try:
            after = bytes.fromhex(page.after[0]) if page.after else None
        except ValueError:
            raise InvalidArgument(detail="page_token is not one that this list gave.") from None
        session = uuid_of(request.session_id, "session_id")
        ask = lifecycle.list_condemned if request.condemned else lifecycle.list_objects
        found = await ask(self._db, claims, session, kind, after=after, limit=page.limit)
        shown, token = page.cut(found, lambda row: (row.sha256.hex(),))
        return objects_pb2.ListResponse(
            objects=[
                objects_pb2.ObjectInfo(
                    name=str(ObjectName(kind, "" if kind.is_root_file else row.sha256.hex())),
                    size=row.size,
                    condemned=timestamp_of(row.condemned) if row.condemned else None,
                )
                for row in shown
            ],
            next_page_token=token,
        )

    async def _header(self, context: Context) -> objects_pb2.PutHeader:
        message = await self._streams.patiently(context.read())
        try:
            request = objects_pb2.PutRequest.FromString(message) if isinstance(message, bytes) else None
        except DecodeError:
            request = None
        if request is None or request.WhichOneof("part") != "header":
            raise InvalidArgument(detail="A put begins with its header.")
        return request.header

    async def _frames(self, context: Context) -> AsyncGenerator[Frame, None]:
        while isinstance(message := await self._streams.patiently(context.read()), bytes):
            frame = read_put(message)
            if frame is None:
                raise InvalidArgument(detail="After its header a put has frames only.")
            yield frame
