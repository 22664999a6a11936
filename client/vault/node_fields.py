"""The fields of a tree's nodes where each is as restic and Oort write it: parsed by msgspec, in a third of the time.

Kept true: what is answered is what the same bytes say as any JSON; where that is not certain nothing is, and the tree
is read field by field (nodes.py), which says what is wrong with it.
"""

from typing import Any

import msgspec

from client.vault.blobs import Buffer


class NodeFields(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One node as it stands in a tree: whole numbers of any size, times and ids as they are written."""

    name: str
    type: str
    mode: int = 0
    mtime: str = ""
    atime: str = ""
    ctime: str = ""
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: str | None = None
    linktarget_raw: str | None = None
    extended_attributes: list[dict[str, str | None]] | None = None
    device: int = 0
    content: list[str] | None = None
    subtree: str | None = None
    error: str = ""

    def as_any(self) -> dict[str, Any]:
        """As any other parser of JSON gives it, but that fields that are not there have their defaults."""
        return msgspec.structs.asdict(self)


class _Tree(msgspec.Struct, forbid_unknown_fields=True):
    nodes: list[NodeFields]


_read = msgspec.json.Decoder(_Tree).decode


def usual_nodes(body: Buffer) -> list[NodeFields] | None:
    """The nodes of a tree blob; None if it is no tree, or one in which a field is unknown or of another type."""
    try:
        return _read(body).nodes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
