"""Bodies on the wire, read and written without copying them through message objects.

`PutRequest.frame` and `PutCopyRequest.frame` are field 2, and `GetResponse.frame` and `GetCopyResponse.frame` field 1
of their messages (protos/oort/storage/v1), so a node passes the very bytes that it got on to another node.
Encoding: protobuf.dev, "Encoding": a tag byte (field number << 3 | 2), the length as a varint, the bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import InvalidArgument

FRAME_BYTES = 512 << 10
# What a put holds in memory is a frame or two, so a frame is bounded below what a message may have.
MAX_FRAME_BYTES = 2 * FRAME_BYTES
_PUT_TAG = 2 << 3 | 2
_GET_TAG = bytes((1 << 3 | 2,))
_LENGTH_BYTES = 5  # of a length, at most: the generated classes refuse longer ones, whatever their value


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of a body, and the message that carries it."""

    message: bytes
    body: memoryview


def read_put(message: bytes) -> Frame | None:
    """The frame in a PutRequest or PutCopyRequest that has nothing else; None for any other message.

    Raises InvalidArgument for one over MAX_FRAME_BYTES.
    """
    if not message or message[0] != _PUT_TAG:
        return None
    length, start = _read_length(message, 1)
    if start + length != len(message):
        return None
    if length > MAX_FRAME_BYTES:
        raise InvalidArgument(detail=f"A frame has at most {MAX_FRAME_BYTES} bytes, and this one {length}.")
    return Frame(message, memoryview(message)[start:])


def put_frames(body: bytes | memoryview) -> Iterator[Frame]:
    """Cut a body that lies in memory."""
    view = memoryview(body)
    for start in range(0, len(view), FRAME_BYTES):
        yield put_frame([view[start : start + FRAME_BYTES]])


def put_frame(parts: Sequence[bytes | memoryview]) -> Frame:
    """One frame of what came in parts."""
    prefix = bytes((_PUT_TAG,)) + _varint(sum(map(len, parts)))
    message = b"".join((prefix, *parts))
    return Frame(message, memoryview(message)[len(prefix) :])


def get_message(body: bytes | memoryview) -> bytes:
    """A GetResponse or GetCopyResponse with this frame."""
    return b"".join((_GET_TAG, _varint(len(body)), body))


def get_body(message: bytes) -> memoryview:
    """The frame in what `get_message` wrote. Raises ValueError."""
    if message[:1] == _GET_TAG:
        length, start = _read_length(message, 1)
        if start + length == len(message):
            return memoryview(message)[start:]
    raise ValueError("not a frame")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_length(message: bytes, at: int) -> tuple[int, int]:
    """The length at `at`, and where it ends; (-1, at) if it does not end."""
    value = 0
    for index, byte in enumerate(message[at : at + _LENGTH_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the last byte has the top bit clear
            return value, at + index + 1
    return -1, at
