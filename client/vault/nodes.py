"""Trees: the content of one directory each, exactly as restic writes them.

Kept true: equal directories give equal bytes (nodes sorted by the raw bytes of their names, keys in a fixed order,
JSON as Go writes it, a newline at the end), and what is read here is safe to join to a folder: no name is empty,
`.`, `..`, twice in a tree, or holds a `/` or a NUL.

A node's `mode` is Go's FileMode, not Unix's (modes.py).
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from client.errors import DamagedVault
from client.vault.blobs import BlobId, Buffer
from client.vault.documents import U32, U64, Document, id_of
from client.vault.gojson import json_name, json_string, unquote_name
from client.vault.json_parts import LastList, value_at
from client.vault.modes import NodeType, unix_mode
from client.vault.node_fields import NodeFields, usual_nodes
from client.vault.times import format_time, parse_time

TREE_START, _TREE_END = b'{"nodes":[', b"]}\n"
EMPTY_TREE = TREE_START + _TREE_END
_AT_ONCE = 256 << 10  # bytes of a tree whose nodes are parsed together: in two thirds of the time
_TYPES = {kind.value: kind for kind in NodeType}
_NUMBERS = (
    *(("mode", U32), ("uid", U32), ("gid", U32), ("inode", U64), ("device_id", U64)),
    *(("size", U64), ("links", U64), ("device", U64)),
)
_U32_BITS, _U64_BITS = 32, 64
_TEXTS = ("user", "group", "error")
# Quoted or not, a name of these is the same, and it is none that must not stand in a tree.
_is_plain_name = re.compile(r"(?!\.)[ !#-.0-\[\]-~]+").fullmatch
# os.fsencode takes U+DC80 to U+DCFF for bytes that are no UTF-8; no other surrogate, and no NUL, can go to the system.
_NO_ATTRIBUTE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")


@dataclass(slots=True, unsafe_hash=True)  # a frozen one is made in five times as long, and a vault has millions
class Node:
    """One entry of a directory, which nobody changes.

    `name` and `linktarget` are bytes as the system has them, times nanoseconds since 1970, `content` the ids of a
    file's blobs in order (None for what is no file), `subtree` the id of a directory's tree, `device` st_rdev of a
    device, `device_id` st_dev. Extended attributes are pairs of name and value.
    """

    name: bytes
    type: NodeType
    mode: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: bytes = b""
    extended_attributes: tuple[tuple[str, bytes], ...] = ()
    device: int = 0
    content: tuple[BlobId, ...] | None = None
    subtree: BlobId | None = None
    error: str = ""

    @property
    def unix_mode(self) -> int:
        return unix_mode(self.mode)


def encode_tree(nodes: Iterable[Node]) -> bytes:
    """The tree blob of a directory's nodes, in whatever order they come. Raises ValueError for a bad or double name."""
    ordered = sorted(nodes, key=lambda node: node.name)
    previous = None
    for node in ordered:
        complaint = name_complaint(node.name)
        if complaint or node.name == previous:
            raise ValueError(f"a node named {node.name!r} {complaint or 'comes twice'}")
        previous = node.name
    return bytes(join_tree(map(encode_node, ordered)))


def join_tree(encoded: Iterable[Buffer]) -> bytearray:
    """The tree blob of nodes that `encode_node` wrote, sorted by their names, each once."""
    body = bytearray(TREE_START)
    for number, node in enumerate(encoded):
        if number:
            body += b","
        body += node
    body += _TREE_END
    return body


def iterate_tree(body: Buffer, name: str = "a tree") -> Iterator[Node]:
    """The nodes of a tree blob one after another, in its order: a folder may have a million. Raises DamagedVault.

    That no name comes twice is not seen to.
    """
    usual = usual_nodes(body) if _has_one_list(body) else None
    if usual is None:
        return iterate_any_tree(body, name)
    return (_decode_usual(fields, name) for fields in usual)


def iterate_any_tree(body: Buffer, name: str = "a tree") -> Iterator[Node]:
    """As `iterate_tree`, field by field, which any tree can be."""
    if bytes(body[: len(TREE_START)]) != TREE_START or _has_one_list(body):
        document = Document.parse(body, name)
        yield from (decode_node(Document(name, fields)) for fields in document.items("nodes"))
        return
    for fields in LastList(body, len(TREE_START), "nodes", name).items():
        yield decode_node(Document(name, fields))


def _has_one_list(body: Buffer) -> bool:
    """Whether it begins as trees do, is small enough to be parsed at once, and has no second list of nodes.

    That could stand under an escaped key too.
    """
    plain = bytes(body) if len(body) <= _AT_ONCE else b""
    return plain.startswith(TREE_START) and plain.count(b'"nodes"') == 1 and b"\\u" not in plain


def node_at(body: Buffer, offset: int, name: str) -> tuple[Node, int]:
    """The node of a tree blob that begins at `offset`, and where it ends. Raises DamagedVault."""
    fields, end = value_at(body, offset, name)
    return decode_node(Document(name, fields)), end


def decode_tree(body: Buffer, name: str = "a tree") -> list[Node]:
    """The nodes of a tree blob. Raises DamagedVault."""
    nodes = list(iterate_tree(body, name))
    seen: set[bytes] = set()
    for node in nodes:
        if node.name in seen:
            raise DamagedVault(name=name, detail=f"two nodes are named {node.name!r}")
        seen.add(node.name)
    return nodes


def name_complaint(name: bytes) -> str:
    """Why a name must not stand in a tree, or nothing."""
    if name in (b"", b".", b".."):
        return "is no name of a file"
    if b"/" in name or b"\0" in name:
        return "holds a slash or a NUL"
    return ""


def encode_node(node: Node) -> bytes:
    """One node of a tree, as `join_tree` takes it."""
    parts = [
        encode_head(
            *(node.name, node.type, node.mode, node.mtime_ns, node.atime_ns, node.ctime_ns),
            *(encode_owner(node.uid, node.gid, node.user, node.group), node.inode, node.device_id, node.size),
            node.links,
        )
    ]
    if node.linktarget:
        parts.append(_encode_link(node.linktarget) + ",")
    if node.extended_attributes:
        parts.append(encode_attributes(node.extended_attributes))
    if node.device:
        parts.append(f'"device":{node.device},')
    parts.append(_encode_content(node))
    if node.subtree is not None:
        parts.append(f',"subtree":"{node.subtree.hex()}"')
    if node.error:
        parts.append(f',"error":{json_string(node.error)}')
    parts.append("}")
    return "".join(parts).encode()


def encode_head(  # noqa: PLR0917 - a node's fields in their order; a quarter of a walk is spent here
    name: bytes,
    kind: NodeType,
    mode: int,
    mtime_ns: int,
    atime_ns: int,
    ctime_ns: int,
    owner: str,
    inode: int,
    device_id: int,
    size: int,
    links: int,
) -> str:
    """An encoded node up to its link count, the comma included; `owner` is what `encode_owner` gave."""
    mtime = format_time(mtime_ns)
    atime = mtime if atime_ns == mtime_ns else format_time(atime_ns)
    ctime = mtime if ctime_ns == mtime_ns else format_time(ctime_ns)
    mode_field = f'"mode":{mode},' if mode else ""
    counts = f'"inode":{inode},' if inode else ""
    if device_id:
        counts += f'"device_id":{device_id},'
    if size:
        counts += f'"size":{size},'
    if links:
        counts += f'"links":{links},'
    return (
        f'{{"name":{json_name(name)},"type":"{kind.value}",{mode_field}"mtime":"{mtime}","atime":"{atime}",'
        f'"ctime":"{ctime}",{owner}{counts}'
    )


@lru_cache(maxsize=4096)
def encode_owner(uid: int, gid: int, user: str, group: str) -> str:
    """The fields of an encoded node that say whose it is, the comma included."""
    names = (f'"{field}":{json_string(name)},' for field, name in (("user", user), ("group", group)) if name)
    return f'"uid":{uid},"gid":{gid},{"".join(names)}'


def encode_attributes(attributes: Iterable[tuple[str, bytes]]) -> str:
    """The field of an encoded node that says its extended attributes, the comma included."""
    pairs = (
        f'{{"name":{json_string(name)},"value":"{base64.b64encode(value).decode()}"}}' for name, value in attributes
    )
    return f'"extended_attributes":[{",".join(pairs)}],'


def _encode_link(target: bytes) -> str:
    text = f'"linktarget":{json_string(target.decode("utf-8", "surrogateescape"))}'
    try:
        target.decode()
    except UnicodeDecodeError:
        return f'{text},"linktarget_raw":"{base64.b64encode(target).decode()}"'
    return text


def _encode_content(node: Node) -> str:
    content = node.content
    if content is None and node.type is NodeType.FILE:
        content = ()
    if content is None or node.type is not NodeType.FILE:
        return '"content":null'
    return '"content":[' + ",".join(f'"{blob.hex()}"' for blob in content) + "]"


def _decode_usual(fields: NodeFields, tree: str) -> Node:
    """One node of a tree, the quickest way that there is. Raises DamagedVault."""
    try:
        return _usual_node(fields)
    except (KeyError, ValueError):  # what is wrong, if anything is, is said field by field
        return decode_node(Document(tree, fields.as_any()))


def _usual_node(fields: NodeFields) -> Node:
    """Raises KeyError, ValueError where there is more to a node, or something is wrong with it."""
    if (
        (fields.mode | fields.uid | fields.gid) >> _U32_BITS
        or (fields.inode | fields.device_id | fields.size | fields.links | fields.device) >> _U64_BITS
        or fields.linktarget is not None
        or fields.linktarget_raw is not None
        or fields.extended_attributes is not None
    ):
        raise ValueError("not as most nodes are")
    name = fields.name.encode()
    if not _is_plain_name(fields.name):
        name = unquote_name(fields.name)
        if name_complaint(name):
            raise ValueError("not as most nodes are")
    mtime, atime, ctime = fields.mtime, fields.atime, fields.ctime
    mtime_ns = parse_time(mtime)
    content, subtree = fields.content, fields.subtree
    return Node(
        name,
        _TYPES[fields.type],
        fields.mode,
        mtime_ns,
        mtime_ns if atime == mtime else parse_time(atime),
        mtime_ns if ctime == mtime else parse_time(ctime),
        fields.uid,
        fields.gid,
        fields.user,
        fields.group,
        fields.inode,
        fields.device_id,
        fields.size,
        fields.links,
        device=fields.device,
        content=None if content is None else tuple([id_of(blob) for blob in content]),
        subtree=None if subtree is None else id_of(subtree),
        error=fields.error,
    )


def decode_node(document: Document) -> Node:
    """One node of a tree. Raises DamagedVault."""
    fields = document.fields
    kind = fields.get("type")
    mode, uid, gid, inode, device_id, size, links, device = [
        value if type(value := fields.get(field, 0)) is int and 0 <= value <= limit else document.whole(field, limit)
        for field, limit in _NUMBERS
    ]
    user, group, error = [
        value if type(value := fields.get(field, "")) is str else document.text(field) for field in _TEXTS
    ]
    name, mtime, atime, ctime = fields.get("name"), fields.get("mtime"), fields.get("atime"), fields.get("ctime")
    mtime_ns = _decode_time(document, "mtime")
    content = fields.get("content")
    return Node(
        name.encode() if type(name) is str and _is_plain_name(name) else _decode_name(document),
        (_TYPES.get(kind) if type(kind) is str else None) or _decode_type(document),
        mode,
        mtime_ns,
        mtime_ns if atime == mtime else _decode_time(document, "atime"),
        mtime_ns if ctime == mtime else _decode_time(document, "ctime"),
        uid,
        gid,
        user,
        group,
        inode,
        device_id,
        size,
        links,
        _decode_link(document) if "linktarget" in fields or "linktarget_raw" in fields else b"",
        _decode_attributes(document) if "extended_attributes" in fields else (),
        device,
        None if content is None else tuple([document.as_id(blob, "content") for blob in document.items("content")]),
        document.optional_id("subtree") if "subtree" in fields else None,
        error,
    )


def _decode_name(document: Document) -> bytes:
    try:
        name = unquote_name(document.text("name"))
    except ValueError as error:
        document.refuse(f"a node's name cannot be read: {error}")
    complaint = name_complaint(name)
    if complaint:
        document.refuse(f"a node's name {name!r} {complaint}")
    return name


def _decode_type(document: Document) -> NodeType:
    try:
        return _TYPES[document.text("type")]
    except KeyError:
        document.refuse(f"a node has the unknown type {document.text('type')!r}")


def _decode_time(document: Document, field: str) -> int:
    text = document.text(field)
    try:
        return parse_time(text) if text else 0
    except ValueError as error:
        document.refuse(f"{field} of a node cannot be read: {error}")


def _decode_link(document: Document) -> bytes:
    raw = document.fields.get("linktarget_raw")
    try:
        target = document.text("linktarget").encode() if raw is None else _decode_base64(document, raw)
    except UnicodeEncodeError:
        document.refuse("a link's target is no UTF-8")
    if b"\0" in target:
        document.refuse("a link's target holds a NUL")
    return target


def _decode_attributes(document: Document) -> tuple[tuple[str, bytes], ...]:
    attributes: list[tuple[str, bytes]] = []
    for fields in document.items("extended_attributes"):
        attribute = Document(document.name, fields)
        name, value = attribute.text("name"), fields.get("value")
        if _NO_ATTRIBUTE.search(name):
            document.refuse("an extended attribute's name holds a NUL or is no UTF-8")
        attributes.append((name, b"" if value is None else _decode_base64(document, value)))
    return tuple(attributes)


def _decode_base64(document: Document, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        document.refuse("a field is no base64")
