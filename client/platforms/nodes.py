"""From what the system says about a file to restic's node, and back onto a file.

Kept true: a node holds exactly what restic would record (internal/restic/node.go): the access time is the
modification time, so that reading a file does not change its tree; directories and FIFOs have no link count.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Protocol

from client.platforms.linux import group_name, is_superuser, read_attributes, user_name
from client.vault.blobs import BlobId
from client.vault.modes import NodeType, go_mode, node_type
from client.vault.nodes import Node, encode_attributes, encode_head, encode_owner

_COUNTED = frozenset({NodeType.FILE, NodeType.SYMLINK, NodeType.DEV, NodeType.CHARDEV})
_MODE_BITS = 0o7777
_NOT_OURS_TO_GIVE = (errno.EPERM, errno.EINVAL)  # the second in a user namespace that does not know the group
_go_mode = lru_cache(maxsize=256)(go_mode)  # there are few modes and many files
_REPLACED_ATTRIBUTES = ("user.", "system.posix_acl_")  # others are the system's affair
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


def encoded_head(name: bytes, found: os.stat_result) -> bytes:
    """What the encoded node of a regular file begins with, up to its content, if it has no extended attributes."""
    return f'{_head(name, found, found.st_size)}"content":['.encode()


def encode_file(
    name: bytes, found: os.stat_result, size: int, attributes: Sequence[tuple[str, bytes]], content: Sequence[BlobId]
) -> bytes:
    """The encoded node of a regular file of which `size` bytes were read: `read_node` and `encode_node` at once.

    A third of their time: a backup does so for every small file.
    """
    ids = '","'.join([blob.hex() for blob in content])
    listed = f'"{ids}"' if ids else ""
    extended = encode_attributes(attributes) if attributes else ""
    return f'{_head(name, found, size)}{extended}"content":[{listed}]}}'.encode()


def _head(name: bytes, found: os.stat_result, size: int) -> str:
    owner = encode_owner(found.st_uid, found.st_gid, user_name(found.st_uid), group_name(found.st_gid))
    mtime = found.st_mtime_ns
    return encode_head(
        *(name, NodeType.FILE, _go_mode(found.st_mode), mtime, mtime, found.st_ctime_ns, owner),
        *(found.st_ino, found.st_dev, size, found.st_nlink),
    )


class Metadata(Protocol):
    """What a node says of a file's owner, mode, times and attributes."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def unix_mode(self) -> int: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def extended_attributes(self) -> Sequence[tuple[str, bytes]]: ...


def write_metadata(node: Metadata, opened: int, *, only_times: bool = False) -> list[str]:
    """Give an open file or folder what its node says; answers what could not be set, in words.

    The order matters: a change of owner takes set-id bits and capabilities away, an ACL is part of the mode, and the
    times come last. Without the right to give files away, the owner is left as it is: that is no complaint. With
    `only_times` it has all else already.
    """
    try:
        # Nearly always nothing is in the way, and of small files there are many.
        if only_times or not node.extended_attributes:
            if not only_times:
                _give_away(node, lambda uid, gid: os.fchown(opened, uid, gid))
                os.fchmod(opened, node.unix_mode & _MODE_BITS)
            os.utime(opened, ns=(node.atime_ns, node.mtime_ns))
            return []
    except (OSError, OverflowError):
        pass  # step by step, to know what it was
    complaints: list[str] = []
    _try(complaints, "owner", lambda: _give_away(node, lambda uid, gid: os.fchown(opened, uid, gid)))
    _try(complaints, "mode", lambda: os.fchmod(opened, node.unix_mode & _MODE_BITS))
    for name, value in node.extended_attributes:
        _try(complaints, f"attribute {name}", partial(os.setxattr, opened, name, value))
    _try(complaints, "times", lambda: os.utime(opened, ns=(node.atime_ns, node.mtime_ns)))
    return complaints


def replace_metadata(node: Node, opened: int) -> list[str]:
    """As `write_metadata`, for a file or folder that was there before: attributes and ACLs that it has beyond go."""
    complaints: list[str] = []
    wanted = {name for name, _ in node.extended_attributes}
    for name, _ in read_attributes(opened):
        if name not in wanted and name.startswith(_REPLACED_ATTRIBUTES):
            _try(complaints, f"attribute {name}", partial(os.removexattr, opened, name))
    return complaints + write_metadata(node, opened)


def write_metadata_at(node: Node, name: bytes, folder: int) -> list[str]:
    """As `write_metadata`, for a link, FIFO or device named `name` in the open `folder`."""
    complaints: list[str] = []
    own = partial(os.chown, name, dir_fd=folder, follow_symlinks=False)
    _try(complaints, "owner", lambda: _give_away(node, own))
    if node.type is not NodeType.SYMLINK:
        _try(complaints, "mode", lambda: os.chmod(name, node.unix_mode & _MODE_BITS, dir_fd=folder))
    path = b"/proc/self/fd/%d/%s" % (folder, name)
    for attribute, value in node.extended_attributes:
        _try(
            complaints,
            f"attribute {attribute}",
            partial(os.setxattr, path, attribute, value, follow_symlinks=False),
        )
    times = (node.atime_ns, node.mtime_ns)
    _try(complaints, "times", lambda: os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False))
    return complaints


def _give_away(node: Metadata, own: Callable[[int, int], None]) -> None:
    if is_superuser():
        own(node.uid, node.gid)
        return
    try:
        own(-1, node.gid)
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_GIVE:
            raise


def _try(complaints: list[str], what: str, do: Callable[[], None]) -> None:
    try:
        do()
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        complaints.append(f"its {what} could not be set: {why.lower()}")


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
