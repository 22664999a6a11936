"""Words of the kernel's FUSE protocol: what requests hold, and how replies are laid out.

Source: Linux, include/uapi/linux/fuse.h, version 7.31; a kernel that speaks a newer one keeps to this. Numbers are in
the machine's own byte order.
"""

import errno
import os
import stat
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from client.errors import UsageError

MAJOR, MINOR, OLDEST_MINOR = 7, 31, 23  # 7.23 is Linux 3.15
ROOT = 1
PAGE = 4096
READ_BUFFER = 64 << 10  # bytes; the kernel wants 8 KiB at least
_MAX_WRITE = PAGE  # nothing is written
_MAX_PAGES = 256  # of one read: 1 MiB
_BACKGROUND = 64  # read-ahead requests that the kernel has under way at once


class Opcode(IntEnum):
    """Those that are answered with more than an error."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44


# What would change something; the kernel refuses most of it by itself, as the file system is mounted read-only.
WRITING = frozenset((4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47))

HEADER = Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, length of extensions, padding
REPLY = Struct("=IiQ")  # length, error, unique
ONE = Struct("=Q")  # of FORGET, INTERRUPT, RELEASE and RELEASEDIR
FORGOTTEN = Struct("=QQ")  # node, lookups
COUNT = Struct("=II")  # of BATCH_FORGET, GETXATTR and LISTXATTR; and a size for an answer of these
READ = Struct("=QQI")  # handle, offset, size
OPENED = Struct("=QIi")  # handle, flags
_INIT = Struct("=IIII")
_INIT_REPLY = Struct("=IIIIHHIIHHI28x")
_STATFS = Struct("=QQQQQIII28x")
_ATTRIBUTES = Struct("=QQqqqIIIIIIIIII")  # without the inode number before them
_ENTRY = Struct("=QQQQIIQ")  # node, generation, two times, their nanoseconds, inode number
_ATTRIBUTE_REPLY = Struct("=QIIQ")
_DIRENT = Struct("=QQII")

KEEP_CACHE, CACHE_DIR, DIRECT_IO = 1 << 1, 1 << 3, 1 << 0  # of OPENED

_ASYNC_READ, _READDIRPLUS, _PARALLEL_DIROPS = 1 << 0, 1 << 13, 1 << 18
_POSIX_ACL, _MAX_PAGES_FLAG, _CACHE_SYMLINKS = 1 << 20, 1 << 22, 1 << 23

_BLOCK = 512
_FOR_EVER = 10 * 365 * 86_400  # seconds: what a snapshot has never changes
_SOON = 1  # second
_ALL_BITS = (1 << 64) - 1


def init_reply(request: memoryview, *, checks_permissions: bool) -> bytes:
    """The answer to INIT. `checks_permissions`: the kernel is to follow the modes and ACLs of the files.

    Raises UsageError for a kernel that is too old.
    """
    major, minor, readahead, offered = _INIT.unpack_from(request)
    if major != MAJOR or minor < OLDEST_MINOR:
        raise UsageError(detail=f"this kernel speaks FUSE {major}.{minor}: {MAJOR}.{OLDEST_MINOR} is needed")
    wanted = _ASYNC_READ | _READDIRPLUS | _PARALLEL_DIROPS | _MAX_PAGES_FLAG | _CACHE_SYMLINKS
    if checks_permissions:
        wanted |= _POSIX_ACL
    return _INIT_REPLY.pack(
        *(MAJOR, min(minor, MINOR), readahead, wanted & offered, _BACKGROUND, _BACKGROUND * 3 // 4, _MAX_WRITE, 1),
        *(_MAX_PAGES, 0, 0),
    )


def attributes(  # noqa: PLR0917 - the fields in their order; a listing has one a file
    mode: int, size: int, links: int, uid: int, gid: int, atime_ns: int, mtime_ns: int, ctime_ns: int, device: int = 0
) -> bytes:
    """What `stat` says of a file, without its inode number; `device` is st_rdev."""
    second = 1_000_000_000
    atime, atime_rest = divmod(atime_ns, second)
    mtime, mtime_rest = divmod(mtime_ns, second)
    ctime, ctime_rest = divmod(ctime_ns, second)
    return _ATTRIBUTES.pack(
        *(size, -(-size // _BLOCK), atime, mtime, ctime, atime_rest, mtime_rest, ctime_rest),
        *(mode, links, uid, gid, _device(device) if device else 0, PAGE, 0),
    )


def _device(device: int) -> int:
    """As the kernel packs the number of a device into 32 bits (new_encode_dev)."""
    major, minor = os.major(device), os.minor(device)
    return ((minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)) & 0xFFFFFFFF


def attribute_reply(inode: int, attributes: bytes, *, lasting: bool) -> bytes:
    return _ATTRIBUTE_REPLY.pack(_FOR_EVER if lasting else _SOON, 0, 0, inode) + attributes


def entry_reply(node: int, inode: int, attributes: bytes, *, lasting: bool) -> bytes:
    seconds = _FOR_EVER if lasting else _SOON
    return _ENTRY.pack(node, 0, seconds, seconds, 0, 0, inode) + attributes


_NOTHING = bytes(_ATTRIBUTES.size)
# That there is no such name, for as long as nothing changes.
NO_ENTRY = _ENTRY.pack(0, 0, _FOR_EVER, 0, 0, 0, 0) + _NOTHING


def dirent(inode: int, offset: int, mode: int, name: bytes) -> bytes:
    """An entry of a folder; `offset` is where the next one begins."""
    padding = -(_DIRENT.size + len(name)) % 8
    return _DIRENT.pack(inode, offset, len(name), stat.S_IFMT(mode) >> 12) + name + bytes(padding)


def dirent_plus(node: int, inode: int, attributes: bytes, offset: int, name: bytes, *, lasting: bool) -> bytes:
    """As `dirent`, with all that `stat` says of it; a `node` of 0 tells nothing of that."""
    seconds = _FOR_EVER if lasting else _SOON
    length = len(name)
    return b"".join(
        (
            _ENTRY.pack(node, 0, seconds, seconds, 0, 0, inode),
            attributes,
            _DIRENT.pack(inode, offset, length, mode_of(attributes) >> 12 & 0xF),
            name,
            bytes(-length % 8),
        )
    )


def nodes_of(listed: bytes) -> Iterator[int]:
    """The nodes that several `dirent_plus` tell of."""
    at = 0
    while at < len(listed):
        yield ONE.unpack_from(listed, at)[0]
        at += _ENTRY.size + _ATTRIBUTES.size
        length = _DIRENT.unpack_from(listed, at)[2]
        at += _DIRENT.size + length + -length % 8


def nothing_of(entry: bytes) -> bytes:
    """A `dirent` as `dirent_plus` that tells nothing of it."""
    return _ENTRY.pack(0, 0, 0, 0, 0, 0, 0) + _NOTHING + entry


_MODE = Struct("=I")
_MODE_AT = 8 * 5 + 4 * 3


def mode_of(attributes: bytes) -> int:
    return int(_MODE.unpack_from(attributes, _MODE_AT)[0])


def statfs_reply(bytes_stored: int) -> bytes:
    """A file system that is full: nothing can be written."""
    return _STATFS.pack(-(-bytes_stored // PAGE), 0, 0, 0, 0, PAGE, 255, PAGE)


def attribute_list(wanted: int, body: bytes) -> bytes | int:
    """The answer to GETXATTR or LISTXATTR: what there is, its size if 0 bytes are wanted, or an error."""
    if wanted == 0:
        return COUNT.pack(len(body), 0)
    return body if len(body) <= wanted else -errno.ERANGE


def hashed(number: int) -> int:
    """An inode number that a hash gave: not 0, and none of the first, which are those of folders of ours."""
    return (number & (_ALL_BITS >> 2)) | 1 << 62
