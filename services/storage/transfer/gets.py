"""Reading of objects: from this node's disk if the copy here is whole, else from another home.

Kept true:
- no byte is given from a copy whose size differs from the catalogue's, and whoever reads a whole object gets it whole
  only if its SHA-256 is right: its last frame is held back until then;
- a copy found missing, cut or altered is entered as missing, so that replication looks at it and heals it; a disk that
  is away says nothing of its copies;
- a home that fails in the middle is followed by the next one, unless what it sent may have been altered;
- when no copy is whole, a part of an object is given from what is left: one flipped bit costs the blob that it hit,
  which does not open, and not its neighbours in the pack.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol
from uuid import UUID

import grpc
import structlog
from oort.storage.v1 import copies_pb2

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.common.database import Database
from services.common.errors import InvalidArgument, ServiceError, Unavailable
from services.storage.errors import Damaged
from services.storage.peers import Peers
from services.storage.sessions import lifecycle
from services.storage.sessions.bodies import Seen
from services.storage.store import buckets, copies
from services.storage.transfer.frames import FRAME_BYTES, get_body, get_message
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.own import OwnCopies
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import OpenObject


class Hash(Protocol):
    """What hashlib.sha256() answers."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `offset` to `end` of an object of `size` bytes."""

    offset: int
    end: int
    size: int

    @property
    def is_whole(self) -> bool:
        return self.offset == 0 and self.end == self.size

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
        self._scratch = memoryview(
            bytearray(FRAME_BYTES)
        )  # of the event loop alone, which does not wait while it is used
        self._log = structlog.get_logger("storage")

    async def open(self, bucket: UUID, name: ObjectName, size: int) -> OpenObject | None:
        """Open the copy here; None if there is none, or not a whole one. Raises Unavailable when its disk is away."""
        opened = await self._open(bucket, name, size)
        if opened is None:
            # Entered a moment ago, and not yet in its place; or its put has placed it before we could.
            await self._incoming.settle(bucket, name)
            opened = await self._open(bucket, name, size)
        return opened

    async def open_cut(self, bucket: UUID, name: ObjectName, end: int) -> OpenObject | None:
        """Open whatever lies here under the name; None if it has less than `end` bytes. Raises Unavailable."""
        return await self._open(bucket, name, end, cut=True)

    async def _open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> OpenObject | None:
        return await self._threads.of(bucket).open(lambda: self._disks.open(bucket, name, size, cut=cut))

    async def frames(
        self, bucket: UUID, opened: OpenObject, part: Part, digest: bytes | None = None
    ) -> AsyncGenerator[bytes, None]:
        """GetResponse messages; reads the next frame while the last one is sent. Closes the object.

        `digest`, for a whole object only, is the SHA-256 that it must have. Raises Damaged when it is another one, or
        the file was cut or cannot be read.
        """
        offset = part.offset
        hashed = sha256() if digest is not None else None
        ahead: asyncio.Future[bytes] | None = None
        try:
            while offset < part.end:
                message = await (ahead or self._read(bucket, opened, offset, part.end, hashed))
                size = len(get_body(message))
                if not size:
                    raise Damaged(name="The object", detail="its file was cut while it was read")
                offset += size
                ahead = self._read(bucket, opened, offset, part.end, hashed) if offset < part.end else None
                if hashed is not None and ahead is None and hashed.digest() != digest:
                    raise Damaged(name="The object", detail="its content has another SHA-256")
                yield message
        except OSError as error:
            raise Damaged(name="The object", detail=f"its file cannot be read: {error.strerror}") from error
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()
            opened.close()

    def _read(
        self, bucket: UUID, opened: OpenObject, offset: int, end: int, hashed: "Hash | None"
    ) -> asyncio.Future[bytes]:
        """The message with the next frame: by a thread, unless it is in memory and need not be hashed.

        To hand a frame to a thread and take it back costs more than to copy it.
        """
        length = min(FRAME_BYTES, end - offset)
        if hashed is None and opened.read_cached(offset, self._scratch[:length]):
            done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            done.set_result(get_message(self._scratch[:length]))
            return done

        def read() -> bytes:
            data = opened.read(offset, length)
            if hashed is not None:
                hashed.update(data)
            return get_message(data)

        return asyncio.ensure_future(self._threads.of(bucket).run(read))

    async def report(self, bucket: UUID, name: ObjectName, size: int, cause: str) -> None:
        """Enter the copy here of an object of `size` bytes as missing: it is gone, cut or altered."""
        self._log.error("a copy is not whole", bucket=str(bucket), name=str(name), cause=cause)
        async with self._db.worker() as unit:
            await copies.add_named(unit, bucket, name, [self._node], size=size)


class Gets:
    """Gets that this node answers, for any bucket of the cluster."""

    def __init__(
        self,
        node: str,
        db: Database,
        local: LocalObjects,
        own: OwnCopies,
        peers: Peers,
        *,
        silent_seconds: float,
        copy_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._local = local
        self._own = own
        self._peers = peers
        self._silent_seconds = silent_seconds
        self._copy_seconds = copy_seconds
        self._log = structlog.get_logger("storage")

    async def get(
        self, claims: VaultClaims, session: UUID, name: ObjectName, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """GetResponse messages with the bytes asked for. Raises NotFound, SessionOver, Damaged."""
        seen = await lifecycle.see(self._db, claims, session, name, self._node)
        is_begun = False
        try:
            async with aclosing(self.read(claims, name, seen, Part.of(offset, length, seen.size))) as messages:
                async for message in messages:
                    is_begun = True
                    yield message
        except ServiceError:
            if is_begun or not name.kind.is_root_file:
                raise
            now = await lifecycle.see(self._db, claims, session, name, self._node)
            if now.sha256 == seen.sha256:
                raise
        else:
            return
        # Another one has taken its place while it was looked for.
        async with aclosing(self.get(claims, session, name, offset, length)) as messages:
            async for message in messages:
                yield message

    async def read(self, claims: VaultClaims, name: ObjectName, seen: Seen, part: Part) -> AsyncGenerator[bytes, None]:
        """The same of an object that the caller may read, as was found out. Raises Damaged."""
        if part.offset == part.end:
            return
        read = _Reading(claims, name, seen, part, part.offset)
        for step in (self._from_here, self._from_others, self._from_here_after_all, self._salvage):
            async with aclosing(step(read)) as frames:
                async for message in frames:
                    read.offset += len(get_body(message))
                    yield message
            if read.offset == part.end:
                return
        raise read.refusal()

    async def _from_here(self, read: "_Reading") -> AsyncGenerator[bytes, None]:
        """What the copy here gives: all, or less when it turns out not to be whole."""
        if not read.seen.lacking:
            async with aclosing(self._own_copy(read)) as frames:
                async for message in frames:
                    yield message

    async def _from_here_after_all(self, read: "_Reading") -> AsyncGenerator[bytes, None]:
        """The same of a copy that counts as missing, if it turns out to be whole."""
        seen = read.seen
        if seen.lacking and await self._own.look_again(
            read.claims.bucket, seen.object_id, read.name, seen.sha256, seen.size
        ):
            async with aclosing(self._own_copy(read)) as frames:
                async for message in frames:
                    yield message

    async def _own_copy(self, read: "_Reading") -> AsyncGenerator[bytes, None]:
        claims, name, part = read.claims, read.name, read.rest
        try:
            opened = await self._local.open(claims.bucket, name, part.size)
        except Unavailable as error:
            # A node that is no home lacks nothing.
            if await self._is_home(claims):
                read.failed(self._node, str(error), passing=True)
            return
        if opened is None:
            await self._local.report(claims.bucket, name, part.size, "it is missing or cut")
            read.failed(self._node, "no whole copy")
            return
        digest = read.seen.sha256 if part.is_whole else None
        try:
            async with aclosing(self._local.frames(claims.bucket, opened, part, digest)) as frames:
                async for message in frames:
                    yield message
        except Damaged as error:
            await self._local.report(claims.bucket, name, part.size, str(error))
            read.damaged(self._node, str(error))
        except Unavailable as error:
            read.failed(self._node, str(error), passing=True)

    async def _from_others(self, read: "_Reading") -> AsyncGenerator[bytes, None]:
        """What the other homes that count as having a copy give."""
        others = [home for home in await self._homes(read) if home.has_copy and home.node_id != self._node]
        # Those that seem down come last: a heartbeat may be late.
        for holder in sorted(others, key=lambda holder: not holder.live):
            try:
                request = copy_request(read.claims.bucket, read.name, read.seen.sha256, read.rest)
                async with aclosing(
                    fetch(self._peers, holder.internal_endpoint, request, self._copy_seconds)
                ) as frames:
                    async for message in frames:
                        yield message
                if read.offset == read.part.end:
                    return
                read.failed(holder.node_id, "it ended early")
            except TimeoutError:
                read.failed(holder.node_id, "it does not answer", passing=True)
            except grpc.aio.AioRpcError as error:
                detail = str(error.details())
                self._log.warning("a copy cannot be read", node=holder.node_id, name=str(read.name), cause=detail)
                if error.code() is grpc.StatusCode.DATA_LOSS:
                    read.damaged(holder.node_id, detail)
                else:
                    read.failed(holder.node_id, detail, passing=True)

    async def _salvage(self, read: "_Reading") -> AsyncGenerator[bytes, None]:
        """A part of an object of which no copy is whole, as far as the homes still have it."""
        if read.part.is_whole or read.passing:
            return
        for holder in sorted(await self._homes(read), key=lambda home: home.node_id != self._node):
            try:
                async with aclosing(self._left_on(holder, read)) as frames:
                    async for message in frames:
                        yield message
            except (Damaged, Unavailable, TimeoutError, grpc.aio.AioRpcError) as error:
                cause = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                self._log.warning("nothing is left of a copy", node=holder.node_id, name=str(read.name), cause=cause)
            if read.offset == read.part.end:
                return

    async def _left_on(self, holder: copies.Holder, read: "_Reading") -> AsyncGenerator[bytes, None]:
        bucket, name, rest = read.claims.bucket, read.name, read.rest
        if holder.node_id != self._node:
            request = copy_request(bucket, name, read.seen.sha256, rest, salvage=True)
            frames = fetch(self._peers, holder.internal_endpoint, request, self._copy_seconds)
        else:
            opened = await self._local.open_cut(bucket, name, rest.end)
            if opened is None:
                return
            frames = self._local.frames(bucket, opened, rest)
        async with aclosing(frames):
            async for message in frames:
                yield message

    async def _homes(self, read: "_Reading") -> list[copies.Holder]:
        async with self._db.unit(read.claims.tenant, read.claims.user) as unit:
            return await copies.holders(unit, read.claims.bucket, read.seen.object_id, self._silent_seconds)

    async def _is_home(self, claims: VaultClaims) -> bool:
        async with self._db.unit(claims.tenant, claims.user) as unit:
            homes = await buckets.homes(unit, claims.bucket, self._silent_seconds)
        return any(home.node_id == self._node for home in homes)


@dataclass(slots=True)
class _Reading:
    """One get: how far it has come, and who could not go on with it."""

    claims: VaultClaims
    name: ObjectName
    seen: Seen
    part: Part
    offset: int
    tried: list[str] = field(default_factory=list)
    passing: bool = False

    @property
    def rest(self) -> Part:
        """What has not been given yet."""
        return Part(self.offset, self.part.end, self.part.size)

    def failed(self, node: str, cause: str, *, passing: bool = False) -> None:
        """A copy could not be read; `passing` when it may well be whole."""
        self.tried.append(f"{node}: {cause}")
        self.passing = self.passing or passing

    def damaged(self, node: str, cause: str) -> None:
        """A copy is not whole. Raises Damaged when altered bytes of it may have been sent: nobody can go on then."""
        self.failed(node, cause)
        if self.part.is_whole and self.offset > self.part.offset:
            raise Damaged(name=self.name, detail="; ".join(self.tried))

    def refusal(self) -> Exception:
        causes = "; ".join(self.tried) or "no other node holds a copy"
        if self.passing:
            return Unavailable(what=f"{self.name} ({causes})")
        return Damaged(name=self.name, detail=causes)


def copy_request(bucket: UUID, name: ObjectName, digest: bytes, part: Part, *, salvage: bool = False) -> bytes:
    """A GetCopyRequest for a part that is not empty, of an object with the SHA-256 `digest`."""
    return copies_pb2.GetCopyRequest(
        bucket_id=str(bucket),
        name=str(name),
        offset=part.offset,
        length=part.end - part.offset,
        size=part.size,
        salvage=salvage,
        sha256=digest,
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
