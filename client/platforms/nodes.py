"""From what the system says about a file to restic's node, and back onto a file.

Kept true: a node holds exactly what restic would record (internal/restic/node.go): the access time is the
modification time, so that reading a file does not change its tree; directories and FIFOs have no link count.
"""

# ruff: noqa: PTH115 - names are bytes here, which pathlib does not know

import os
import stat

from client.platforms.linux import group_name, read_attributes, user_name
from client.vault.blobs import BlobId
from client.vault.nodes import Node, NodeType, go_mode, node_type

_COUNTED = frozenset({NodeType.FILE, NodeType.SYMLINK, NodeType.DEV, NodeType.CHARDEV})
_DEVICES = frozenset({NodeType.DEV, NodeType.CHARDEV})


def read_node(
    name: bytes, at: bytes | int, found: os.stat_result, content: tuple[BlobId, ...] | None = None, size: int = 0
) -> Node:
    """The node of a file: `at` is its path, or the open file itself. Raises OSError.

    A regular file's `content` and `size` are what was read of it.
    """
    kind = node_type(found.st_mode)
    return Node(
        name=name,
        type=kind,
        mode=go_mode(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        atime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        uid=found.st_uid,
        gid=found.st_gid,
        user=user_name(found.st_uid),
        group=group_name(found.st_gid),
        inode=found.st_ino,
        device_id=found.st_dev,
        size=size,
        links=counted_links(kind, found),
        linktarget=os.readlink(at) if kind is NodeType.SYMLINK and isinstance(at, bytes) else b"",
        extended_attributes=read_attributes(at),
        device=found.st_rdev if kind in _DEVICES else 0,
        content=content,
    )


def counted_links(kind: NodeType, found: os.stat_result) -> int:
    """The link count that a node records."""
    return found.st_nlink if kind in _COUNTED else 0


def is_unchanged(known: Node, found: os.stat_result) -> bool:
    """Whether a node still tells a file's content: type, size, inode and both times are the same."""
    return (
        known.mtime_ns == found.st_mtime_ns
        and known.ctime_ns == found.st_ctime_ns
        and known.inode == found.st_ino
        and (not stat.S_ISREG(found.st_mode) or known.size == found.st_size)
        and known.mode == go_mode(found.st_mode)
    )


def is_same(known: Node, found: os.stat_result) -> bool:
    """Whether an unchanged node may stand in a new tree as it is: a file system may come back under another number."""
    return known.device_id == found.st_dev and known.links == counted_links(known.type, found)
