"""Trees of files for tests, and what two of them differ in."""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

# ruff: noqa: PTH115, PTH211 - links may point to bytes that are no text


def random_bytes(size: int, seed: int = 0) -> bytes:
    """The same ones for the same seed. Made by a cipher, which is many times faster than `random`."""
    return Cipher(AES256(seed.to_bytes(32)), CTR(bytes(16))).encryptor().update(bytes(size))


def a_mixed_tree(root: Path, *, privileged: bool) -> None:
    """One of each kind of thing that a backup must bring back; `privileged` adds what only root may make."""
    root.mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "small").write_text("small\n")
    (root / "medium").write_bytes(random_bytes(1 << 20, 1))
    (root / "big").write_bytes(random_bytes(5 << 20, 2) + bytes(9 << 20) + random_bytes(100, 3))
    (root / "folder").mkdir()
    (root / "folder" / "deep").mkdir()
    (root / "folder" / "deep" / "file").write_text("deep")
    (root / "empty folder").mkdir()
    os.link(root / "medium", root / "folder" / "another name")
    (root / "link").symlink_to("folder/deep/file")
    (root / "dangling").symlink_to("nowhere/at all")
    os.symlink(b"\xff\xfe", os.fsencode(root / "link to no text"))
    (Path(os.fsdecode(os.fsencode(root) + b'/no text \xff\xfe\n"\\'))).write_text("named in bytes")
    (root / "grüße <&> \u2028").write_text("named in text")
    os.mkfifo(root / "fifo", 0o640)
    (root / "read only").write_text("x")
    (root / "read only").chmod(0o400)
    (root / "set id").write_text("x")
    (root / "set id").chmod(0o6755)
    (root / "folder").chmod(0o1777)
    if hasattr(os, "setxattr"):
        _try_attribute(root / "small", "user.oort", b"\x00value\xff")
        _try_attribute(root / "folder", "user.empty", b"")
        _try_attribute(root / "small", "system.posix_acl_access", _an_acl())
    if privileged:
        os.chown(root / "small", 1234, 4321)
        os.chown(root / "link", 1234, 4321, follow_symlinks=False)
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(root / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    for number, path in enumerate(sorted(_below(root), reverse=True)):
        os.utime(path, ns=(10**18, 1_500_000_000_123_456_789 + number * 1_000_000_007), follow_symlinks=False)
    os.utime(root / "small", ns=(0, -1_000_000_001))


def _an_acl() -> bytes:
    """user::rw- user:ME:r-- group::r-- mask::r-- other::r--, laid out as in the kernel's posix_acl_xattr.h."""
    everybody = 0xFFFFFFFF
    entries = ((0x01, 6, everybody), (0x02, 4, os.getuid()), (0x04, 4, everybody), (0x10, 4, everybody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (*entries, (0x20, 4, everybody)))


def _try_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        yield from (Path(folder) / name for name in (*folders, *files))
    yield root


def a_deep_folder(root: Path, depth: int, name: str = "d") -> None:
    """A folder, in it one called `name`, and so on for `depth` levels, and a file `f` in the last, by no long path."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        above, here = here, os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(above)
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


def described(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything that a restore must bring back, by path: kind, mode, owner, time, content, links, attributes."""
    found: dict[bytes, tuple[object, ...]] = {}
    inodes: dict[int, bytes] = {}
    for path in sorted(_below(root)):
        info = path.lstat()
        name = os.fsencode(path)[len(os.fsencode(root)) :]
        content: object = None
        if stat.S_ISREG(info.st_mode):
            content = (path.read_bytes(), inodes.setdefault(info.st_ino, name))
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(os.fsencode(path))
        elif stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
            content = info.st_rdev
        found[name] = (
            info.st_mode,
            info.st_uid,
            info.st_gid,
            info.st_mtime_ns,
            content,
            [(attribute, os.getxattr(path, attribute, follow_symlinks=False)) for attribute in _attributes(path)],
        )
    return found


def _attributes(path: Path) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))
