"""Contents, where blobs are not listed, and what is held of them."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from client.mount.contents import Blobs, Lost, OpenFile
from client.testing.files import random_bytes
from client.vault.blobs import BlobKind
from client.vault.tests.builders import a_writer

UNKNOWN = bytes(32)
PARTS = [random_bytes(1000 + number, number) for number in range(5)]


@pytest.mark.parametrize(
    ("lost", "readable"),
    [({2}, (2001, 3003)), ({0}, (0, 1000)), ({4}, (4006, 5010)), ({1, 3}, (1000, 4006)), (set(range(5)), (0, 5010))],
)
def test_what_lies_before_and_behind_blobs_that_no_index_lists_can_be_read(
    lost: set[int], readable: tuple[int, int]
) -> None:
    writer = a_writer()
    ids = writer.blobs(BlobKind.DATA, *PARTS)
    vault = writer.finish()
    whole = b"".join(PARTS)
    file = OpenFile(
        Blobs(vault), b"".join(UNKNOWN if at in lost else blob for at, blob in enumerate(ids)), len(whole), b"/a"
    )
    start, end = readable
    assert file.size == len(whole)
    assert b"".join(file.read(0, start)) == whole[:start]
    assert b"".join(file.read(end, 1 << 20)) == whole[end:]
    for offset in (start, end - 1):
        with pytest.raises(Lost, match="index files do not list"):
            file.read(offset, 1)
    vault.session.close()


def test_no_more_is_held_than_may_be_and_all_can_be_read() -> None:
    writer = a_writer()
    parts = [random_bytes(1 << 20, number) for number in range(24)]
    ids = writer.blobs(BlobKind.DATA, *parts)
    vault = writer.finish()
    blobs = Blobs(vault, budget=4 << 20)
    file = OpenFile(blobs, b"".join(ids), 24 << 20, b"/a")
    whole = b"".join(parts)
    for _ in range(2):
        for offset in range(0, 24 << 20, 128 << 10):
            assert b"".join(file.read(offset, 128 << 10)) == whole[offset : offset + (128 << 10)]
    # What is coming ahead of a read is held besides, and no other is asked for until that has come.
    assert blobs.held <= (4 << 20) + (32 << 20)
    blobs.close()
    vault.session.close()


def test_many_read_with_hardly_any_room_and_nothing_stays_under_way() -> None:
    """Blobs are let go of by others the moment they have come."""
    writer = a_writer()
    parts = [random_bytes(50 << 10, number) for number in range(160)]
    ids = writer.blobs(BlobKind.DATA, *parts)
    vault = writer.finish()
    blobs = Blobs(vault, budget=96 << 10)

    def read(number: int) -> bool:
        first = number % 8 * 20
        whole = b"".join(parts[first : first + 20])
        file = OpenFile(blobs, b"".join(ids[first : first + 20]), len(whole), b"/a")
        step = 64 << 10
        return all(b"".join(file.read(at, step)) == whole[at : at + step] for at in range(0, len(whole), step))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(read, range(64)))
    finally:
        sys.setswitchinterval(before)
    blobs.close(wait=True)
    assert blobs.under_way == 0
    vault.session.close()
