"""What is read without the generated classes is to them what it was taken for."""

import pytest
from google.protobuf.message import DecodeError
from oort.storage.v1 import objects_pb2

from services.storage.transfer.frames import read_put

FRAME = b"\x12"  # field 2, by its length


@pytest.mark.parametrize("size", range(1, 12))
def test_a_length_of_as_many_bytes_as_the_generated_class_takes_is_that_of_a_frame(size: int) -> None:
    length = b"\x04" if size == 1 else b"\x84" + b"\x80" * (size - 2) + b"\0"
    message = FRAME + length + b"body"
    try:
        expected = objects_pb2.PutRequest.FromString(message).frame
    except DecodeError:
        assert read_put(message) is None
        return
    frame = read_put(message)
    assert frame is not None
    assert bytes(frame.body) == expected == b"body"
