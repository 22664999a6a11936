"""One connection to a node, and bodies on it in frames.

Kept true: a body is copied once on its way out (into the message) and once on its way in (out of the frames).
The generated classes would copy it three times, so the two messages that carry frames are written and read here;
a test compares both with the generated classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from oort.storage.v1 import objects_pb2, objects_pb2_grpc, sessions_pb2_grpc

from client.rpc import tls_channel

if TYPE_CHECKING:
    import grpc

FRAME_BYTES = 512 * 1024  # a node holds one or two of each stream: it takes at most 1 MiB
_PUT_FRAME_TAG = 2 << 3 | 2  # PutRequest.frame: field 2, length-delimited
_GET_FRAME_TAG = 1 << 3 | 2  # GetResponse.frame
_VARINT_BYTES = 10  # of 64 bits (protobuf encoding)
_SERVICE = "/oort.storage.v1.ObjectService/"

PutPart = objects_pb2.PutHeader | memoryview


class Connection:
    """One TCP connection to one node."""

    def __init__(self, endpoint: str, ca_pem: bytes, options: Sequence[tuple[str, int]] = ()) -> None:
        self.endpoint = endpoint
        self._channel = tls_channel(endpoint, ca_pem, options)
        self.objects = objects_pb2_grpc.ObjectServiceStub(self._channel)
        self.sessions = sessions_pb2_grpc.SessionServiceStub(self._channel)
        self.put = cast(
            "grpc.StreamUnaryMultiCallable[PutPart, objects_pb2.PutResponse]",
            self._channel.stream_unary(
                _SERVICE + "Put",
                request_serializer=encode_put,
                response_deserializer=objects_pb2.PutResponse.FromString,
            ),
        )
        self.get = cast(
            "grpc.UnaryStreamMultiCallable[objects_pb2.GetRequest, memoryview]",
            self._channel.unary_stream(
                _SERVICE + "Get",
                request_serializer=objects_pb2.GetRequest.SerializeToString,
                response_deserializer=decode_get,
            ),
        )

    def close(self) -> None:
        self._channel.close()


def frames(body: memoryview, took: Callable[[int], None]) -> Iterator[memoryview]:
    """Cut a body; `took` is told the length of each frame as it is taken for sending."""
    for start in range(0, len(body), FRAME_BYTES):
        frame = body[start : start + FRAME_BYTES]
        took(len(frame))
        yield frame


def encode_put(part: PutPart) -> bytes:
    """A PutRequest as it goes over the wire."""
    if isinstance(part, objects_pb2.PutHeader):
        return objects_pb2.PutRequest(header=part).SerializeToString()
    return b"".join((bytes((_PUT_FRAME_TAG,)), _varint(len(part)), part))


def decode_get(message: bytes) -> memoryview:
    """The frame of a GetResponse."""
    if message and message[0] == _GET_FRAME_TAG:
        length, start = _read_varint(message, 1)
        if start + length == len(message):
            return memoryview(message)[start:]
    # Fields that this version does not know.
    return memoryview(objects_pb2.GetResponse.FromString(message).frame)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte (protobuf encoding)
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """Value and the place after it; a varint that is cut short or too long gives a place past the end."""
    value = shift = 0
    for place in range(start, min(start + _VARINT_BYTES, len(message))):
        value |= (message[place] & 0x7F) << shift
        if not message[place] & 0x80:
            return value, place + 1
        shift += 7
    return value, len(message) + 1
