"""What of a file is in its node, what a change of a file is, and what comes back onto a file."""

import errno
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from client.platforms import nodes
from client.platforms.nodes import (
    encode_file,
    is_same,
    is_unchanged,
    read_node,
    write_metadata,
    write_metadata_at,
)
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node, encode_node

ACL = "system.posix_acl_access"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


def node_of(path: Path) -> Node:
    found = path.lstat()
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return read_node(os.fsencode(path.name), os.fsencode(path), found, size=size)


def write(node: Node, path: Path) -> list[str]:
    opened = os.open(path, os.O_RDONLY)
    try:
        return write_metadata(node, opened)
    finally:
        os.close(opened)


def write_at(node: Node, folder: Path) -> list[str]:
    opened = os.open(folder, os.O_RDONLY)
    try:
        return write_metadata_at(node, node.name, opened)
    finally:
        os.close(opened)


def an_acl(mask: int) -> bytes:
    """user::rw- user:0:rw- group::r-- mask other::---, laid out as in the kernel's posix_acl_xattr.h."""
    everybody = 0xFFFFFFFF
    entries = ((0x01, 6, everybody), (0x02, 6, 0), (0x04, 4, everybody), (0x10, mask, everybody), (0x20, 0, everybody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def keeps(path: Path, name: str, value: bytes) -> bool:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return False
    os.removexattr(path, name)
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("content")
    return path


def test_a_node_says_of_a_file_what_the_system_says(file: Path) -> None:
    file.chmod(0o640)
    os.utime(file, ns=(5, 1_500_000_000_123_456_789))
    os.link(file, file.with_name("other"))
    node, found = node_of(file), file.stat()
    assert (node.type, node.unix_mode, node.size, node.links) == (NodeType.FILE, stat.S_IFREG | 0o640, 7, 2)
    assert (node.uid, node.gid, node.inode, node.device_id) == (found.st_uid, found.st_gid, found.st_ino, found.st_dev)
    # Reading a file must not change its tree.
    assert node.atime_ns == node.mtime_ns == 1_500_000_000_123_456_789


@pytest.mark.parametrize("attributes", [(), (("user.a", b"\xff"), ("user.b<", b""))])
@pytest.mark.parametrize("content", [(), (b"\1" * 32,), (b"\1" * 32, b"\2" * 32)])
def test_a_file_is_encoded_at_once_as_by_way_of_its_node(
    tmp_path: Path, attributes: tuple[tuple[str, bytes], ...], content: tuple[bytes, ...]
) -> None:
    path = tmp_path / os.fsdecode(b'a "name" \xff')
    path.touch(0o640)
    name, size = os.fsencode(path.name), 5 * len(content)
    node = replace(
        read_node(name, os.fsencode(path), path.stat(), content, size),
        extended_attributes=attributes,
    )
    assert encode_file(name, path.stat(), size, attributes, content) == encode_node(node)


def test_links_folders_and_pipes_have_what_restic_records_of_them(tmp_path: Path) -> None:
    os.symlink(b"to \xff", os.fsencode(tmp_path / "link"))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    link, folder, pipe = (node_of(tmp_path / name) for name in ("link", "folder", "pipe"))
    assert (link.type, link.linktarget, link.links) == (NodeType.SYMLINK, b"to \xff", 1)
    assert (folder.type, folder.links, pipe.type, pipe.links) == (NodeType.DIR, 0, NodeType.FIFO, 0)


def test_a_file_that_nobody_touched_is_unchanged(file: Path) -> None:
    assert is_unchanged(node_of(file), file.lstat())
    assert is_same(node_of(file), file.lstat())


def test_new_content_of_the_old_size_under_the_old_time_is_a_change(file: Path) -> None:
    node, before = node_of(file), file.stat()
    # The clock that files are stamped by ticks some hundred times a second: the change must fall into another tick.
    node = replace(node, ctime_ns=node.ctime_ns - 20_000_000)
    file.write_text("CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert not is_unchanged(node, after)


def test_another_file_of_the_same_size_and_times_is_a_change(file: Path) -> None:
    node = node_of(file)
    other = file.with_name("other")
    other.write_text("CONTENT")
    os.utime(other, ns=(node.mtime_ns, node.mtime_ns))
    other.rename(file)
    found = file.stat()
    same_ctime = replace(node, ctime_ns=found.st_ctime_ns)
    assert (found.st_size, found.st_mtime_ns) == (node.size, node.mtime_ns)
    assert not is_unchanged(same_ctime, found)
    assert is_unchanged(replace(same_ctime, inode=found.st_ino), found)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode", "mode"])
def test_each_of_what_is_compared_is_a_change(file: Path, field: str) -> None:
    node = node_of(file)
    assert not is_unchanged(replace(node, **{field: getattr(node, field) ^ 1}), file.lstat())


def test_a_file_system_under_another_number_changes_the_node_but_not_the_content(file: Path) -> None:
    node = node_of(file)
    for other in (replace(node, device_id=node.device_id + 1), replace(node, links=2)):
        assert is_unchanged(other, file.lstat())
        assert not is_same(other, file.lstat())


def test_mode_and_times_come_back(file: Path) -> None:
    node = replace(node_of(file), mode=go_mode(stat.S_IFREG | 0o6751), mtime_ns=-1_000_000_001, atime_ns=7)
    assert write(node, file) == []
    found = file.stat()
    assert stat.S_IMODE(found.st_mode) == 0o6751
    assert (found.st_mtime_ns, found.st_atime_ns) == (-1_000_000_001, 7)


@as_root
def test_a_new_owner_does_not_cost_the_set_id_bits(file: Path) -> None:
    node = replace(node_of(file), uid=1234, gid=4321, mode=go_mode(stat.S_IFREG | 0o6755))
    attributes = (("user.oort", b"value"),) if keeps(file, "user.oort", b"value") else ()
    for written in (node, replace(node, extended_attributes=attributes)):  # at once, and step by step
        os.chown(file, 0, 0)
        assert write(written, file) == []
        found = file.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o6755)


def test_an_acl_comes_after_the_mode_and_the_times_come_last(file: Path) -> None:
    if not keeps(file, ACL, an_acl(6)):
        pytest.skip("this file system keeps no ACLs")
    os.setxattr(file, ACL, an_acl(6))
    os.utime(file, ns=(10**18, 10**18))
    node = node_of(file)
    assert dict(node.extended_attributes)[ACL] == an_acl(6)
    target = file.with_name("target")
    target.write_text("content")

    assert write(node, target) == []

    assert os.getxattr(target, ACL) == an_acl(6)
    assert target.stat().st_mode == file.stat().st_mode
    assert target.stat().st_mtime_ns == 10**18


def test_steps_are_taken_in_the_order_that_keeps_all_of_them(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(nodes, "is_superuser", lambda: True)
    for step in ("fchown", "fchmod", "setxattr", "utime"):
        monkeypatch.setattr(os, step, lambda *_, step=step, **__: steps.append(step))
    node = replace(node_of(file), extended_attributes=(("user.a", b""), ("user.b", b"")))
    assert write(node, file) == []
    assert steps == ["fchown", "fchmod", "setxattr", "setxattr", "utime"]


def test_what_cannot_be_set_is_named_and_the_rest_is_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refusing)
    node = replace(node_of(file), mtime_ns=10**18, extended_attributes=(("user.oort", b"value"),))
    assert write(node, file) == ["its attribute user.oort could not be set: operation not supported"]
    assert file.stat().st_mtime_ns == 10**18
    assert any("times" in complaint for complaint in write(replace(node, mtime_ns=1 << 100), file))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_who_may_not_give_files_away_keeps_them_without_a_complaint(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    given: list[tuple[int, int]] = []

    def refusing(_: int, uid: int, gid: int) -> None:
        given.append((uid, gid))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(nodes, "is_superuser", lambda: False)
    monkeypatch.setattr(os, "fchown", refusing)
    assert write(replace(node_of(file), uid=1234, gid=4321), file) == []
    assert given == [(-1, 4321)]


def test_a_link_gets_its_own_times_and_its_target_none(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("file")
    before = file.stat()
    assert write_at(replace(node_of(link), mtime_ns=10**18, atime_ns=10**18), file.parent) == []
    assert link.lstat().st_mtime_ns == 10**18
    after = file.stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_ctime_ns) == (
        before.st_mtime_ns,
        before.st_mode,
        before.st_ctime_ns,
    )


@as_root
def test_a_link_gets_its_own_owner_and_its_target_does_not(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("file")
    assert write_at(replace(node_of(link), uid=1234, gid=4321), file.parent) == []
    assert (link.lstat().st_uid, link.lstat().st_gid) == (1234, 4321)
    assert file.stat().st_uid == os.geteuid()


def test_a_pipe_gets_its_mode_and_times(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    node = replace(node_of(tmp_path / "pipe"), mode=go_mode(stat.S_IFIFO | 0o642), mtime_ns=10**18)
    assert write_at(node, tmp_path) == []
    found = (tmp_path / "pipe").lstat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o642, 10**18)
