import os

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from oort.storage.v1 import objects_pb2

from client.stores.node.wire import FRAME_BYTES, decode_get, encode_put, frames


@given(st.binary(max_size=70_000))
def test_frames_are_written_and_read_as_the_generated_classes_do(frame: bytes) -> None:
    assert objects_pb2.PutRequest.FromString(encode_put(memoryview(frame))).frame == frame
    assert decode_get(objects_pb2.GetResponse(frame=frame).SerializeToString()) == frame


def test_a_header_is_written_as_the_generated_class_does() -> None:
    header = objects_pb2.PutHeader(session_id="s", name="data/x", size=7, packs=["data/y"])
    assert objects_pb2.PutRequest.FromString(encode_put(header)).header == header


def test_a_full_frame_stays_below_the_message_limit() -> None:
    assert len(encode_put(memoryview(bytes(FRAME_BYTES)))) < 4 << 20


def test_a_length_without_an_end_is_refused_at_once() -> None:
    with pytest.raises(DecodeError):
        decode_get(b"\x0a" + b"\xff" * (4 << 20))


@pytest.mark.parametrize("message", [b"", b"\x12\x01x", b"\x0a\x01x\x12\x01y"])
def test_a_message_with_unknown_fields_is_read_by_the_generated_class(message: bytes) -> None:
    assert decode_get(message) == objects_pb2.GetResponse.FromString(message).frame


def test_a_body_is_cut_into_fixed_frames_without_copies() -> None:
    body = os.urandom(2 * FRAME_BYTES + 5)
    taken: list[int] = []
    cut = list(frames(memoryview(body), taken.append))
    assert taken == [FRAME_BYTES, FRAME_BYTES, 5]
    assert b"".join(cut) == body
    assert all(frame.obj is body for frame in cut)
