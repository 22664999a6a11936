"""Reading of an object's file with and without waiting for the disk."""

import errno
import os
from pathlib import Path

import pytest

from services.storage.volumes.reading import open_file


def test_what_is_in_memory_is_read_at_once_or_not_at_all_but_never_wrongly(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    path = tmp_path / "object"
    path.write_bytes(content)
    opened = open_file(path, len(content))
    assert opened is not None
    room = bytearray(40_000)

    was_cached = opened.read_cached(30_000, memoryview(room))

    assert not was_cached or room == content[30_000:70_000]
    assert not opened.read_cached(90_000, memoryview(room))  # the file ends before
    assert opened.read(90_000, 40_000) == content[90_000:]
    opened.close()


def test_a_file_that_the_system_does_not_let_go_of_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    path = tmp_path / "object"
    path.write_bytes(b"content")
    opened = open_file(path, 7)
    assert opened is not None
    opened.let_go(0, 7)
    assert opened.read(0, 7) == b"content"
    opened.close()
