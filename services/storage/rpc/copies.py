"""CopyService: copies that other nodes bring and fetch. Internal listener, storage nodes only."""

import asyncio
from contextlib import aclosing
from hashlib import sha256
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from oort.storage.v1 import copies_pb2

from domain.names import ObjectName
from services.common.errors import InvalidArgument, Unavailable
from services.common.identity import require_peer
from services.common.listeners import Served
from services.common.messages import uuid_of
from services.storage.errors import Damaged
from services.storage.transfer.copies import LocalCopy
from services.storage.transfer.frames import read_put
from services.storage.transfer.gets import LocalObjects, Part
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.names import name_of
from services.storage.transfer.streams import Streams
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads

Context = grpc.aio.ServicerContext[Any, Any]
NAME = copies_pb2.DESCRIPTOR.services_by_name["CopyService"].full_name
_READY = copies_pb2.PutCopyResponse(ready=True).SerializeToString()
_STAGED = copies_pb2.PutCopyResponse(staged=True).SerializeToString()
_SETTLED = copies_pb2.PutCopyResponse().SerializeToString()


class CopiesRpc:
    def __init__(
        self,
        node: str,
        *,
        disks: Disks,
        threads: DiskThreads,
        incoming: Incoming,
        local: LocalObjects,
        streams: Streams,
    ) -> None:
        self._node = node
        self._disks = disks
        self._threads = threads
        self._incoming = incoming
        self._local = local
        self._streams = streams
        self._log = structlog.get_logger("storage")

    def served(self) -> Served:
        """The service with its handlers."""
        return Served(self._add, self, NAME)

    def _add(self, _servicer: Any, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "PutCopy": grpc.stream_stream_rpc_method_handler(self.put_copy, None, None),
            "GetCopy": grpc.unary_stream_rpc_method_handler(self.get_copy, copies_pb2.GetCopyRequest.FromString, None),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async def put_copy(self, _requests: object, context: Context) -> None:
        """Say whether there is room, take a body, say `staged`, and do with it what the asking node then says.

        The asking node has checked the put; this one trusts its certificate, and verifies the bytes again.
        """
        require_peer(context, "storage")
        staged, header = _read_header(await self._message(context))
        copy = LocalCopy(
            self._node, self._disks, self._threads, staged, header.size, frees=header.frees, first=header.first
        )
        whole = settled = False
        try:
            await copy.begin()
            await context.write(_READY)
            await self._take(context, copy)
            await copy.stage()
            whole = True
            await context.write(_STAGED)
            last = _read_last(await self._message(context))
            await (copy.place() if last else copy.discard())
            settled = True
            await context.write(_SETTLED)
        finally:
            if not settled:
                await asyncio.shield(self._abandoned(copy, staged, whole=whole))

    async def get_copy(self, request: copies_pb2.GetCopyRequest, context: Context) -> None:
        require_peer(context, "storage")
        bucket, name = uuid_of(request.bucket_id, "bucket_id"), name_of(request.name)
        part = Part.of(request.offset, request.length, request.size)
        _require_sha256(name, request.sha256)
        if request.salvage:
            opened = await self._local.open_cut(bucket, name, part.end)
        else:
            opened = await self._local.open(bucket, name, request.size)
        if opened is None:
            await self._local.report(bucket, name, request.size, "it is missing or cut")
            raise Damaged(name=name, detail=f"node {self._node} has no whole copy")
        digest = request.sha256 if part.is_whole else None
        try:
            async with aclosing(self._local.frames(bucket, opened, part, digest)) as frames:
                async for message in frames:
                    await self._streams.patiently(context.write(message))
        except Damaged as error:
            await self._local.report(bucket, name, request.size, str(error))
            raise

    async def _take(self, context: Context, copy: LocalCopy) -> None:
        """Write frame after frame until the sender says `complete`."""
        while True:
            message = await self._message(context)
            frame = read_put(message)
            if frame is None:
                if not _parse(message).complete:
                    raise InvalidArgument(detail="After its header a copy has frames, then `complete`.")
                return
            await copy.write(frame)

    async def _abandoned(self, copy: LocalCopy, staged: StagedName, *, whole: bool) -> None:
        """The asking node has gone. A whole copy may have been entered: the catalogue knows.

        Where that is away too, it waits as what a killed node leaves does, and nobody is here to be told.
        """
        if not whole:
            await copy.discard()
            return
        try:
            await self._incoming.settle(staged.bucket, staged.name)
        except Unavailable as error:
            self._log.warning(
                "an incoming file waits", bucket=str(staged.bucket), name=str(staged.name), cause=str(error)
            )

    async def _message(self, context: Context) -> bytes:
        message = await self._streams.patiently(context.read())
        if not isinstance(message, bytes):
            raise InvalidArgument(detail="The copy ended early.")
        return message


def _parse(message: bytes) -> copies_pb2.PutCopyRequest:
    try:
        return copies_pb2.PutCopyRequest.FromString(message)
    except DecodeError:
        raise InvalidArgument(detail="Not a PutCopyRequest.") from None


def _read_header(message: bytes) -> tuple[StagedName, copies_pb2.CopyHeader]:
    request = _parse(message)
    if request.WhichOneof("part") != "header":
        raise InvalidArgument(detail="A copy begins with its header.")
    header = request.header
    bucket, session = uuid_of(header.bucket_id, "bucket_id"), uuid_of(header.session_id, "session_id")
    name = name_of(header.name)
    _require_sha256(name, header.sha256)
    return StagedName(bucket, session, name, header.sha256), header


def _require_sha256(name: ObjectName, digest: bytes) -> None:
    """The root files do not say theirs in their names."""
    if len(digest) != sha256().digest_size:
        raise InvalidArgument(detail="The sha256 of a copy has 32 bytes.")
    if name.id and name.id != digest.hex():
        raise InvalidArgument(detail=f"The sha256 of a copy of {name} is that of its name.")


def _read_last(message: bytes) -> bool:
    request = _parse(message)
    if request.WhichOneof("part") != "place":
        raise InvalidArgument(detail="A staged copy is placed or thrown away.")
    return request.place
