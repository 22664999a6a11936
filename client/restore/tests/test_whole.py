"""Small files made in one go: what is right at once is not set again, and all is right in the end."""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.restore.small_files import SmallFile
from client.restore.whole import NewFiles, write_whole

DEFAULT_ACL = "system.posix_acl_default"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


class Calls:
    """The modes that files were made with, and how often an owner and a mode were set."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.owners = 0
        self.modes = 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    create, own, change = os.open, os.fchown, os.fchmod

    def opening(name: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            calls.made.append(mode)
        return create(name, flags, mode, dir_fd=dir_fd)

    def owning(opened: int, uid: int, gid: int) -> None:
        calls.owners += 1
        own(opened, uid, gid)

    def changing(opened: int, mode: int) -> None:
        calls.modes += 1
        change(opened, mode)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fchown", owning)
    monkeypatch.setattr(os, "fchmod", changing)
    return calls


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def write(folder: Path, count: int = 4, mode: int = 0o640, uid: int | None = None, gid: int | None = None) -> None:
    """Make files of one kind, and see that each is what it was to be."""
    uid = os.getuid() if uid is None else uid
    gid = os.getgid() if gid is None else gid
    opened = os.open(folder, os.O_RDONLY)
    new_files = NewFiles()
    try:
        for number in range(count):
            name, times = b"file-%o-%d" % (mode, number), (10**18 + number, 15 * 10**17 + number)
            file = SmallFile(0, name, b"partial", stat.S_IFREG | mode, uid, gid, *times, ())
            assert write_whole(file, b"partial", b"content", opened, new_files) == []
            found = os.stat(name, dir_fd=opened)
            assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFREG | mode, uid, gid)
            assert (found.st_atime_ns, found.st_mtime_ns, found.st_size) == (*times, 7)
    finally:
        os.close(opened)


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("mode", [0o640, 0o666, 0o755, 0o400, 0])
def test_owner_and_mode_are_set_until_they_are_known_to_be_right(tmp_path: Path, calls: Calls, mode: int) -> None:
    write(tmp_path, mode=mode)

    assert calls.made == [0o600, mode, mode, mode]
    assert (calls.owners, calls.modes) == (2, 2)


def test_a_umask_that_takes_rights_away_takes_them_from_no_file(tmp_path: Path, calls: Calls) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path, mode=0o666)
        write(tmp_path, mode=0o640)
    finally:
        os.umask(before)

    assert calls.made == [0o600, 0o666, 0o600, 0o600, 0o600, 0o640, 0o640, 0o640]
    assert calls.modes == 6


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644])
def test_special_bits_come_when_a_file_is_whole(tmp_path: Path, calls: Calls, mode: int) -> None:
    write(tmp_path, mode=mode)

    assert calls.made == [0o600] * 4


@as_root
@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize(("uid", "gid"), [(1234, 0), (0, 4321)])
def test_what_will_be_somebody_elses_is_hidden_until_it_is(tmp_path: Path, calls: Calls, uid: int, gid: int) -> None:
    write(tmp_path, uid=uid, gid=gid)

    assert calls.made == [0o600] * 4


@as_root
@pytest.mark.usefixtures("no_umask")
def test_a_folder_that_gives_its_group_to_files_is_noticed(tmp_path: Path, calls: Calls) -> None:
    os.chown(tmp_path, -1, 4321)
    tmp_path.chmod(0o2755)

    write(tmp_path, gid=0)
    write(tmp_path, mode=0o644, gid=4321)

    assert calls.made == [0o600] * 5 + [0o644] * 3


@pytest.mark.usefixtures("no_umask")
def test_a_folder_that_gives_files_an_acl_is_noticed(tmp_path: Path, calls: Calls) -> None:
    """user::rw- group::r-- other::---, laid out as in the kernel's posix_acl_xattr.h."""
    everybody = 0xFFFFFFFF
    entries = ((0x01, 6, everybody), (0x04, 4, everybody), (0x20, 0, everybody))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(tmp_path, DEFAULT_ACL, acl)
    except OSError:
        pytest.skip("this file system keeps no ACLs")

    write(tmp_path, mode=0o644)
    write(tmp_path, mode=0o640)

    assert calls.made == [0o600, 0o644, 0o600, 0o600, 0o600, 0o640, 0o640, 0o640]


def test_what_has_attributes_gets_all_of_them(tmp_path: Path, calls: Calls) -> None:
    opened = os.open(tmp_path, os.O_RDONLY)
    new_files = NewFiles()
    kind = stat.S_IFREG | 0o600, os.getuid(), os.getgid(), 1, 2
    try:
        for _ in range(3):
            write_whole(SmallFile(0, b"plain", b"partial", *kind, ()), b"partial", b"content", opened, new_files)
        file = SmallFile(0, b"name", b"partial", *kind, [("nonsense", b"")])
        complaints = write_whole(file, b"partial", b"content", opened, new_files)
    finally:
        os.close(opened)

    assert len(complaints) == 1
    assert "nonsense" in complaints[0]
    assert calls.owners == calls.modes == 3
