"""A walk through folders that are deeper than a process may hold open."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from client.restore.descent import Descent
from client.restore.way import remove
from client.testing.files import a_deep_folder

DEPTH = 1200


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """A folder with one in it, and so on; removed by what is tested here, for others give up at this depth."""
    a_deep_folder(tmp_path / "top", DEPTH)
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    remove(b"top", opened, frozenset())
    os.close(opened)
    assert os.listdir(tmp_path) == []


def leave_all(here: Descent) -> None:
    for _ in range(100):
        here.leave()


def open_descriptors(folder: Path) -> int:
    """How many lead to what is in a folder: others may be opened and closed by other threads."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{folder}/")
    return found


def test_depth_costs_neither_descriptors_nor_the_way_back(top: int, tmp_path: Path) -> None:
    before = open_descriptors(tmp_path)
    with Descent(top) as here:
        here.enter(b"top")
        entered = [here.found]
        for _ in range(DEPTH):
            here.enter(b"d")
            entered.append(here.found)
        assert 0 < open_descriptors(tmp_path) - before < 100
        with pytest.raises(FileNotFoundError):
            here.enter(b"d")
        for found in reversed(entered):
            assert os.path.samestat(os.fstat(here.folder), found)
            assert stat.S_ISDIR(here.found.st_mode)
            here.leave()
        assert here.folder == top
    assert open_descriptors(tmp_path) == before


def test_a_folder_that_was_moved_meanwhile_leads_nowhere_else(top: int, tmp_path: Path) -> None:
    with Descent(top) as here:
        here.enter(b"top")
        for _ in range(100):
            here.enter(b"d")
        os.rename("top/d/d", "moved", src_dir_fd=top, dst_dir_fd=top)
        with pytest.raises(OSError, match="moved") as told:
            leave_all(here)
        assert told.value.errno == errno.ESTALE
    os.rename("moved", "top/d/d", src_dir_fd=top, dst_dir_fd=top)
    assert (tmp_path / "top" / "d" / "d").is_dir()


def test_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    opened = os.open(tmp_path, os.O_RDONLY)
    with Descent(opened) as here, pytest.raises(NotADirectoryError):
        here.enter(b"link")
    os.close(opened)
