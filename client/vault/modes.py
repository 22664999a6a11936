"""Types of nodes, and their modes: restic keeps Go's FileMode (io/fs), whose bits are not those of Unix."""

import stat
from enum import StrEnum
from functools import lru_cache


class NodeType(StrEnum):
    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    DEV = "dev"  # a block device
    CHARDEV = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"
    IRREGULAR = "irregular"


# Go, io/fs.FileMode
MODE_DIR = 1 << 31
MODE_SYMLINK = 1 << 27
MODE_DEVICE = 1 << 26
MODE_NAMED_PIPE = 1 << 25
MODE_SOCKET = 1 << 24
MODE_SETUID = 1 << 23
MODE_SETGID = 1 << 22
MODE_CHAR_DEVICE = 1 << 21
MODE_STICKY = 1 << 20
MODE_IRREGULAR = 1 << 19
_PERMISSIONS = 0o777

TYPE_BITS = {
    NodeType.FILE: 0,
    NodeType.DIR: MODE_DIR,
    NodeType.SYMLINK: MODE_SYMLINK,
    NodeType.DEV: MODE_DEVICE,
    NodeType.CHARDEV: MODE_DEVICE | MODE_CHAR_DEVICE,
    NodeType.FIFO: MODE_NAMED_PIPE,
    NodeType.SOCKET: MODE_SOCKET,
    NodeType.IRREGULAR: MODE_IRREGULAR,
}
MODE_TYPE = MODE_DIR | MODE_SYMLINK | MODE_DEVICE | MODE_NAMED_PIPE | MODE_SOCKET | MODE_CHAR_DEVICE | MODE_IRREGULAR
MODE_MASK = MODE_TYPE | MODE_SETUID | MODE_SETGID | MODE_STICKY | _PERMISSIONS
_TYPE_OF_FORMAT = {
    stat.S_IFREG: NodeType.FILE,
    stat.S_IFDIR: NodeType.DIR,
    stat.S_IFLNK: NodeType.SYMLINK,
    stat.S_IFBLK: NodeType.DEV,
    stat.S_IFCHR: NodeType.CHARDEV,
    stat.S_IFIFO: NodeType.FIFO,
    stat.S_IFSOCK: NodeType.SOCKET,
}
_FORMAT_OF_TYPE = {kind: fmt for fmt, kind in _TYPE_OF_FORMAT.items()}
_SPECIAL = ((stat.S_ISUID, MODE_SETUID), (stat.S_ISGID, MODE_SETGID), (stat.S_ISVTX, MODE_STICKY))


def node_type(st_mode: int) -> NodeType:
    """The type of node that a `st_mode` of stat(2) means."""
    return _TYPE_OF_FORMAT.get(stat.S_IFMT(st_mode), NodeType.IRREGULAR)


def go_mode(st_mode: int) -> int:
    """Go's FileMode of a `st_mode` of stat(2)."""
    mode = (st_mode & _PERMISSIONS) | TYPE_BITS[node_type(st_mode)]
    for unix, go in _SPECIAL:
        if st_mode & unix:
            mode |= go
    return mode


@lru_cache(maxsize=256)  # there are few modes and many files
def unix_mode(mode: int) -> int:
    """The `st_mode` of stat(2), file format included, of a Go FileMode."""
    st_mode = mode & _PERMISSIONS
    for unix, go in _SPECIAL:
        if mode & go:
            st_mode |= unix
    for kind, bits in TYPE_BITS.items():
        if mode & MODE_TYPE == bits:
            st_mode |= _FORMAT_OF_TYPE.get(kind, 0)
    return st_mode
