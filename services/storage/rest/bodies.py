"""Bodies of HTTP requests: bounded, patient for a while, and handed on in the frames that puts take."""

from collections.abc import AsyncGenerator, AsyncIterator
from hashlib import sha256

from aiohttp import web

from domain.names import ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES
from services.common.errors import InvalidArgument
from services.storage.errors import NameMismatch
from services.storage.transfer.frames import FRAME_BYTES, Frame, put_frame
from services.storage.transfer.streams import Streams

# Those that are read whole; locks, keys and configs have a few hundred bytes.
SMALL_BYTES = {
    ObjectKind.CONFIG: 64 << 10,
    ObjectKind.KEY: 64 << 10,
    ObjectKind.LOCK: 16 << 10,
    ObjectKind.SNAPSHOT: MAX_SNAPSHOT_BYTES,
}
# restic makes packs of up to 128 MiB and a blob.
STREAM_BYTES = 1 << 30


def announced_size(request: web.BaseRequest, kind: ObjectKind) -> int:
    """How many bytes the body will have, which restic says beforehand. Raises InvalidArgument."""
    size = request.content_length
    if size is None:
        raise InvalidArgument(detail="The request says no Content-Length.")
    limit = SMALL_BYTES.get(kind, STREAM_BYTES)
    if size > limit:
        raise InvalidArgument(detail=f"A file in {kind} has at most {limit} bytes, and this one {size}.")
    return size


async def read_small(request: web.BaseRequest, streams: Streams, name: ObjectName) -> bytes:
    """A body that is held in memory. Raises InvalidArgument, Stalled, NameMismatch."""
    size = announced_size(request, name.kind)
    body = b"".join([bytes(frame.body) async for frame in frames_of(request, streams)])
    if len(body) != size or (name.id and sha256(body).hexdigest() != name.id):
        raise NameMismatch(name=name, detail="its content has another SHA-256")
    return body


async def frames_of(request: web.BaseRequest, streams: Streams) -> AsyncGenerator[Frame, None]:
    """A body in frames of FRAME_BYTES, as it arrives. Raises Stalled."""
    parts: list[bytes] = []
    size = 0
    while part := await streams.patiently(request.content.read(FRAME_BYTES - size)):
        parts.append(part)
        size += len(part)
        if size == FRAME_BYTES:
            yield put_frame(parts)
            parts, size = [], 0
    if parts:
        yield put_frame(parts)


async def require_same(frames: AsyncIterator[Frame], name: ObjectName) -> None:
    """Read the body of an object that is there already. Raises NameMismatch when it is not that one."""
    digest = sha256()
    async for frame in frames:
        digest.update(frame.body)
    if digest.hexdigest() != name.id:
        raise NameMismatch(name=name, detail="its content has another SHA-256")
