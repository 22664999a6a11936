"""Trees to back up."""

import os
import socket
import stat
import struct
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

MIB = 1 << 20


def a_tree(root: Path, seed: int = 1) -> Path:
    """Files of many sizes, folders, links, odd names, modes, times, an attribute: what an ordinary home holds."""
    random = Random(seed)
    root.mkdir(parents=True)
    for folder in ("documents/letters", "empty", "pictures", "deep/" + "/".join("abcdefgh")):
        (root / folder).mkdir(parents=True)
    (root / "documents/empty").touch()
    for number in range(60):
        (root / f"documents/letters/{number:03d}.txt").write_bytes(random.randbytes(random.randint(0, 9_000)))
    (root / "pictures/large.raw").write_bytes(random.randbytes(9 * MIB))
    (root / "pictures/zeros").write_bytes(bytes(3 * MIB))
    (root / "pictures/copy.raw").write_bytes((root / "pictures/large.raw").read_bytes())
    (root / "deep/a/b/c/note").write_text("at the bottom\n")
    (root / "documents/Ünïcode ☂ name").write_text("umbrella")
    (root / 'documents/quote " back \\ slash').write_text("quotes")
    (root / "documents/line\nbreak").write_text("line break")
    os.close(os.open(os.fsencode(root) + b"/documents/not-utf8-\xff\xfe", os.O_CREAT | os.O_WRONLY, 0o640))
    (root / "to-letter").symlink_to("documents/letters/001.txt")
    (root / "dangling").symlink_to("nowhere/at/all")
    (root / "hard").hardlink_to(root / "documents/letters/002.txt")
    os.mkfifo(root / "pipe", 0o622)
    (root / "documents/letters/003.txt").chmod(0o4711)
    (root / "empty").chmod(0o1750)
    os.setxattr(root / "documents/letters/004.txt", "user.comment", b"kept \x00 too")
    for path in sorted(root.rglob("*"), reverse=True):
        nanoseconds = random.randint(10**18, 17 * 10**17)
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    os.utime(root, ns=(10**18 + 7, 10**18 + 7))
    return root


NOT_TEXT = b"to-no-text"  # a link whose target is no UTF-8: restic 0.14 garbles that on its way out and in
SOCKET = b"socket"  # left out by both programs


def every_kind(root: Path) -> Path:
    """`a_tree`, and what is rarer: holes, devices, ACLs, other owners, odd times, longest names.

    Devices, owners and capabilities only as root, who alone may make them, and what nobody else may read.
    """
    a_tree(root)
    rare = root / "rare"
    rare.mkdir()
    _make_sparse(rare)
    os.symlink(b"\xff\xfe", os.fsencode(root / os.fsdecode(NOT_TEXT)))  # noqa: PTH211 - its target is bytes
    _make_socket(root, SOCKET)
    (rare / ("n" * 255)).write_text("the longest name")
    (rare / "long link").symlink_to("/".join(["up"] * 1000))
    (rare / "second pipe").hardlink_to(root / "pipe")
    os.link(root / "dangling", rare / "second link", follow_symlinks=False)
    for folder, mode in (("set gid", 0o2775), ("sticky", 0o1777)):
        (rare / folder).mkdir()
        (rare / folder).chmod(mode)
    (rare / "attributes").write_text("has many")
    for number in range(20):
        os.setxattr(rare / "attributes", f"user.number {number:02}", bytes([number]) * number * 10)
    os.setxattr(rare / "attributes", "system.posix_acl_access", _acl(access=True))
    os.setxattr(rare / "set gid", "system.posix_acl_default", _acl(access=False))
    if os.geteuid() == 0:
        (rare / "nobody may read this").touch(mode=0)
        (rare / "closed").mkdir(mode=0)
        os.mknod(rare / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(rare / "many minors", stat.S_IFCHR | 0o600, os.makedev(4095, 1048575))
        os.mknod(rare / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 200))
        os.chown(rare / "disk", 0, 6)
        os.chown(rare / "attributes", 12345, 54321)
        os.chown(rare / "long link", 1, 2, follow_symlinks=False)
        os.setxattr(rare / "attributes", "security.capability", bytes.fromhex("01000002 00040000" + 24 * "0"))
    for number, path in enumerate(sorted(rare.rglob("*"), reverse=True)):
        os.utime(path, ns=(1, 1_600_000_000_987_654_321 - number * 10**9), follow_symlinks=False)
    os.utime(rare / "attributes", ns=(0, -1_234_567_891))  # before 1970
    os.utime(rare / "sparse", ns=(0, 4_102_444_800_000_000_001))  # 2100
    os.utime(rare, ns=(0, 999_999_999))
    return root


def _make_socket(folder: Path, name: bytes) -> None:
    """Its address has 107 bytes at most, however deep the folder lies: the folder is named by its descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(f"/proc/self/fd/{descriptor}/".encode() + name)
    finally:
        os.close(descriptor)


def _make_sparse(folder: Path) -> None:
    """Files with holes at the beginning, in the middle, at the end, and everywhere."""
    random = Random(9)
    with (folder / "sparse").open("wb") as file:
        for block in (2, 3, 500, 1200, 1201, 9000):
            file.seek(block * 4096)
            file.write(random.randbytes(4096))
        file.seek(5000 * 4096)
        file.write(random.randbytes(3 * MIB))
        file.truncate(60 * MIB + 5)
    with (folder / "only a hole").open("wb") as file:
        file.truncate(100 * MIB)
    with (folder / "small and sparse").open("wb") as file:
        file.seek(40_960)
        file.write(b"end")


def _acl(*, access: bool) -> bytes:
    """user::rwx user:1:rw- group::r-x group:2:r-- mask::rwx other::r--, as in the kernel's posix_acl_xattr.h."""
    everybody = 0xFFFFFFFF
    entries = ((0x01, 7, everybody), (0x02, 6, 1), (0x04, 5, everybody), (0x08, 4, 2))
    others = ((0x10, 7 if access else 5, everybody), (0x20, 4, everybody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (*entries, *others))


def incompressible(path: Path, mib: int, seed: int) -> Path:
    """A file that is sent as large as it is. Made by a cipher, which is many times faster than `random`."""
    cipher = Cipher(AES256(seed.to_bytes(32)), CTR(bytes(16))).encryptor()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(cipher.update(bytes(MIB)))
    return path


def restored(target: Path, source: Path) -> Path:
    """Where a restore puts an absolute source path below its target."""
    return target / source.relative_to("/")
