"""Opening files without following links, waiting or touching; reading what is attached to them."""

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from client.platforms import linux


@contextmanager
def closing(opened: int) -> Iterator[int]:
    try:
        yield opened
    finally:
        os.close(opened)


def bytes_of(path: Path) -> bytes:
    return os.fsencode(path)


def set_or_skip(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip(f"this file system keeps no {name}")


def test_reading_a_file_leaves_its_access_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    os.utime(path, ns=(1, 2))
    with closing(linux.open_for_reading(bytes_of(path), os.geteuid())) as opened:
        assert os.read(opened, 100) == b"content"
    assert path.stat().st_atime_ns == 1


def test_a_file_whose_access_time_may_not_be_kept_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    real = os.open

    def refusing(name: bytes, flags: int, *rest: int) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    with closing(linux.open_for_reading(bytes_of(path), os.geteuid())) as opened:
        assert os.read(opened, 100) == b"content"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder link").symlink_to("folder")
    opening: list[Callable[[bytes, int], int]] = [
        lambda name, _: linux.open_for_reading(bytes_of(tmp_path) + b"/" + name, os.geteuid()),
        linux.open_within,
        linux.open_for_writing,
    ]
    with closing(linux.open_folder(bytes_of(tmp_path))) as folder:
        for open_it in opening:
            with pytest.raises(OSError, match="symbolic link") as refused:
                open_it(b"link", folder)
            assert refused.value.errno == errno.ELOOP
        with pytest.raises(NotADirectoryError):
            linux.open_folder(b"folder link", folder)
        with pytest.raises(FileExistsError):
            linux.create_file(b"link", folder)


def test_a_pipe_in_a_files_place_does_not_make_anybody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with closing(linux.open_for_reading(bytes_of(tmp_path / "pipe"), os.geteuid())) as opened:
        assert stat.S_ISFIFO(os.fstat(opened).st_mode)


def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    with closing(linux.open_folder(bytes_of(tmp_path))) as folder:
        os.close(linux.create_file(b"file", folder))
        linux.make_folder(b"folder", folder)
        linux.make_special(b"pipe", folder, stat.S_IFIFO | 0o600, 0)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700, "pipe": 0o600}


def test_what_is_written_behind_the_end_leaves_a_hole(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(closing(linux.open_folder(bytes_of(tmp_path))))
        opened = stack.enter_context(closing(linux.create_file(b"file", folder)))
        linux.write_all(opened, b"end", 8 << 20)
        linux.write_all(opened, b"start")
    found = (tmp_path / "file").stat()
    assert found.st_size == (8 << 20) + 3
    assert found.st_blocks * 512 < 1 << 20
    content = (tmp_path / "file").read_bytes()
    assert content == b"start" + bytes((8 << 20) - 5) + b"end"


def test_attributes_come_by_name_from_a_path_and_from_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert linux.read_attributes(bytes_of(path)) == ()
    set_or_skip(path, "user.second", b"\x00\xff")
    set_or_skip(path, "user.first", b"")
    expected = (("user.first", b""), ("user.second", b"\x00\xff"))
    assert linux.read_attributes(bytes_of(path)) == expected
    with closing(os.open(path, os.O_RDONLY)) as opened:
        assert linux.read_attributes(opened) == expected


def test_a_link_does_not_have_the_attributes_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    set_or_skip(tmp_path / "file", "user.oort", b"value")
    (tmp_path / "link").symlink_to("file")
    assert linux.read_attributes(bytes_of(tmp_path / "link")) == ()


@pytest.mark.parametrize("number", [errno.ENODATA, errno.EACCES])
def test_an_attribute_that_vanishes_or_is_secret_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["user.there", "user.gone"])

    def getting(_: object, name: str, **__: object) -> bytes:
        if name == "user.gone":
            raise OSError(number, os.strerror(number))
        return b"value"

    monkeypatch.setattr(os, "getxattr", getting)
    assert linux.read_attributes(bytes_of(tmp_path)) == (("user.there", b"value"),)


def test_a_disk_that_fails_is_not_a_file_without_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listxattr", failing)
    with pytest.raises(OSError, match="Input/output error"):
        linux.read_attributes(bytes_of(tmp_path))


def test_users_and_groups_that_nobody_knows_have_no_name() -> None:
    assert (linux.user_name(0), linux.group_name(0)) == ("root", "root")
    assert (linux.user_name(4_000_000_123), linux.group_name(4_000_000_123)) == ("", "")


def all_of(opened: int, room: int = 700_000) -> bytes:
    """What `reader_past_holes` gives."""
    buffer = memoryview(bytearray(room))
    readinto = linux.reader_past_holes(opened, is_settled=True)
    parts = []
    while read := readinto(buffer):
        parts.append(bytes(buffer[:read]))
    return b"".join(parts)


def a_file_with_holes(path: Path) -> Path:
    with path.open("wb") as file:
        for offset in (1 << 20, 5 << 20):
            file.seek(offset)
            file.write(b"data" * 2000)
        file.truncate(9 << 20)
    return path


def test_holes_come_as_zeros_and_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file_with_holes(tmp_path / "file")
    asked: list[int] = []
    genuine = os.preadv

    def preadv(opened: int, rooms: list[memoryview], offset: int) -> int:
        asked.append(sum(map(len, rooms)))
        return genuine(opened, rooms, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    with path.open("rb") as file:
        assert all_of(file.fileno()) == path.read_bytes()
    if path.stat().st_blocks * 512 < 1 << 20:  # the file system keeps holes
        assert sum(asked) < 1 << 20


def test_a_file_system_that_knows_nothing_of_holes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file_with_holes(tmp_path / "file")

    def lseek(*_: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", lseek)
    with closing(os.open(path, os.O_RDONLY)) as opened:
        assert all_of(opened) == path.read_bytes()


def test_a_file_that_shrinks_while_it_is_read_ends_there(tmp_path: Path) -> None:
    path = a_file_with_holes(tmp_path / "file")
    room = memoryview(bytearray(1 << 20))
    with path.open("rb") as file:
        readinto = linux.reader_past_holes(file.fileno(), is_settled=True)
        assert readinto(room) == 1 << 20
        os.truncate(path, 1 << 19)
        assert readinto(room) == 0


def test_a_hole_that_ends_sooner_meanwhile_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 30)
    room = memoryview(bytearray(1 << 20))
    with path.open("rb") as file:
        readinto = linux.reader_past_holes(file.fileno(), is_settled=True)
        assert readinto(room) == 1 << 20
        os.truncate(path, 3 << 19)
        assert readinto(room) == 1 << 19
        assert readinto(room) == 0


def test_of_a_file_that_has_just_changed_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file_with_holes(tmp_path / "file")
    monkeypatch.setattr(os, "lseek", None)
    room = memoryview(bytearray(16 << 20))
    with path.open("rb") as file:
        assert linux.reader_past_holes(file.fileno(), is_settled=False)(room) == path.stat().st_size


def test_shared_memory_that_is_given_back_takes_none_and_the_rest_stays() -> None:
    size, kept = 4 << 20, 1 << 20
    with closing(linux.shared_memory(size)) as opened, mmap.mmap(opened, size) as memory:
        memory[:] = b"x" * size
        try:
            memory.madvise(mmap.MADV_REMOVE, size - mmap.PAGESIZE)
        except OSError:
            pytest.skip("this system takes no shared memory back")

        linux.give_back_shared_memory(memory, kept)

        assert os.fstat(opened).st_blocks * 512 == kept
        assert memory[:] == b"x" * kept + bytes(size - kept)
