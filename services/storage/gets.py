"""Reading of objects: from this node's disk if the copy here is whole, else from another home.

Kept true: no byte is given from a copy whose size differs from the catalogue's; a copy found missing or cut is entered
as missing, so that replication heals it; a home that fails in the middle is followed by the next one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import grpc
import structlog
from oort.storage.v1 import copies_pb2

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.common.database import Database
from services.common.errors import InvalidArgument
from services.storage import sessions
from services.storage.copies import DiskThreads
from services.storage.disk import Disks, OpenObject
from services.storage.errors import Damaged
from services.storage.frames import FRAME_BYTES, get_body, get_message
from services.storage.incoming import Incoming
from services.storage.peers import Peers
from services.storage.store import copies


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `offset` to `end` of an object of `size` bytes."""

    offset: int
    end: int
    size: int

    @classmethod
    def of(cls, offset: int, length: int, size: int) -> "Part":
        """`length` 0 is to the end. Raises InvalidArgument for what lies outside."""
        end = offset + length if length else size
        if offset > size or end > size:
            raise InvalidArgument(detail=f"Bytes {offset} to {end} were asked for, and the object has {size}.")
        return cls(offset, end, size)


class LocalObjects:
    """The copies on this node."""

    def __init__(self, node: str, db: Database, disks: Disks, threads: DiskThreads, incoming: Incoming) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._incoming = incoming

    async def open(self, bucket: UUID, name: ObjectName, size: int) -> OpenObject | None:
        """Open the copy here; None if there is none, or not a whole one."""
        opened = await self._open(bucket, name, size)
        if opened is None and await self._incoming.settle(bucket, name):
            # Entered a moment ago, and not yet in its place.
            opened = await self._open(bucket, name, size)
        return opened

    async def _open(self, bucket: UUID, name: ObjectName, size: int) -> OpenObject | None:
        opening = asyncio.ensure_future(self._threads.run(lambda: self._disks.open(bucket, name, size)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The caller went away while the thread opened the file.
            opening.add_done_callback(_close)
            raise

    async def frames(self, opened: OpenObject, part: Part) -> AsyncGenerator[bytes, None]:
        """GetResponse messages; reads the next frame while the last one is sent. Closes the object."""
        offset = part.offset
        ahead: asyncio.Future[bytes] | None = None
        try:
            while offset < part.end:
                data = await (ahead or self._read(opened, offset, part.end))
                if not data:
                    raise Damaged(name="The object", detail="its file was cut while it was read")
                offset += len(data)
                ahead = self._read(opened, offset, part.end) if offset < part.end else None
                yield get_message(data)
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
            opened.close()

    def _read(self, opened: OpenObject, offset: int, end: int) -> asyncio.Future[bytes]:
        length = min(FRAME_BYTES, end - offset)
        return asyncio.ensure_future(self._threads.run(lambda: opened.read(offset, length)))

    async def report(self, object_id: int) -> None:
        """Enter the copy here as missing: it is gone or cut."""
        async with self._db.worker() as unit:
            await copies.add(unit, object_id, self._node)


def _close(opening: asyncio.Future[OpenObject | None]) -> None:
    if not opening.cancelled() and opening.exception() is None and (opened := opening.result()) is not None:
        opened.close()


class Gets:
    """Gets that this node answers, for any bucket of the cluster."""

    def __init__(
        self,
        node: str,
        db: Database,
        local: LocalObjects,
        peers: Peers,
        *,
        silent_seconds: float,
        copy_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._local = local
        self._peers = peers
        self._silent_seconds = silent_seconds
        self._copy_seconds = copy_seconds
        self._log = structlog.get_logger("storage")

    async def get(
        self, claims: VaultClaims, session: UUID, name: ObjectName, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """GetResponse messages with the bytes asked for. Raises NotFound, SessionOver, Damaged."""
        seen = await sessions.see(self._db, claims, session, name, self._node)
        part = Part.of(offset, length, seen.size)
        if part.offset == part.end:
            return
        if not seen.lacking:
            opened = await self._local.open(claims.bucket, name, seen.size)
            if opened is not None:
                async with aclosing(self._local.frames(opened, part)) as frames:
                    async for message in frames:
                        yield message
                return
        async with aclosing(self._from_others(claims, name, seen, part)) as frames:
            async for message in frames:
                yield message

    async def _from_others(
        self, claims: VaultClaims, name: ObjectName, seen: sessions.Seen, part: Part
    ) -> AsyncGenerator[bytes, None]:
        async with self._db.unit(claims.tenant, claims.user) as unit:
            holders = await copies.holders(unit, claims.bucket, seen.object_id, self._silent_seconds)
        if not seen.lacking and any(holder.node_id == self._node for holder in holders):
            self._log.error("a copy is missing or cut", bucket=str(claims.bucket), name=str(name), node=self._node)
            await self._local.report(seen.object_id)
        others = [holder for holder in holders if holder.has_copy and holder.node_id != self._node]
        tried: list[str] = []
        offset = part.offset
        # Those that seem down come last: a heartbeat may be late.
        for holder in sorted(others, key=lambda holder: not holder.live):
            try:
                request = copy_request(claims.bucket, name, Part(offset, part.end, part.size))
                async with aclosing(
                    fetch(self._peers, holder.internal_endpoint, request, self._copy_seconds)
                ) as frames:
                    async for message in frames:
                        offset += len(get_body(message))
                        yield message
                if offset == part.end:
                    return
                tried.append(f"{holder.node_id}: it ended early")
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else "it does not answer"
                tried.append(f"{holder.node_id}: {detail}")
                self._log.warning("a copy cannot be read", node=holder.node_id, name=str(name), cause=str(detail))
        raise Damaged(name=name, detail="; ".join(tried) or "no other node holds a copy")


def copy_request(bucket: UUID, name: ObjectName, part: Part) -> bytes:
    """A GetCopyRequest for a part that is not empty."""
    return copies_pb2.GetCopyRequest(
        bucket_id=str(bucket), name=str(name), offset=part.offset, length=part.end - part.offset, size=part.size
    ).SerializeToString()


async def fetch(peers: Peers, endpoint: str, request: bytes, seconds: float) -> AsyncGenerator[bytes, None]:
    """GetCopyResponse messages from another node; each has `seconds`. Raises AioRpcError, TimeoutError."""
    call = peers.get_copy(endpoint, request)
    try:
        while True:
            async with asyncio.timeout(seconds):
                message = await call.read()
            if not isinstance(message, bytes):
                return
            yield message
    finally:
        call.cancel()
