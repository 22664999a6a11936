"""What a vault's documents must look like to the last byte, which reading them does not ask.

restic's own check looks at few of these rules (0.14 calls a repository clean that breaks any of them), yet each costs
something: documents that are not as Go writes them do not deduplicate, names that are not quoted as Go does come back
altered, modes that are Unix's come back as other modes. Every function answers its complaints, none if all is well.
"""

import base64
import binascii
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from client.vault.blobs import Buffer
from client.vault.gojson import RawNumber, go_json, is_printable, quote_name, unquote_name
from client.vault.modes import MODE_MASK, MODE_TYPE, TYPE_BITS, NodeType
from client.vault.nodes import Node
from client.vault.times import is_canonical_time

_OMITTED_WHEN_EMPTY = (
    *("mode", "user", "group", "inode", "device_id", "size", "links", "linktarget", "linktarget_raw"),
    *("extended_attributes", "device", "subtree", "error"),
)
_NODE_KEYS = (
    *("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id", "size"),
    *("links", "linktarget", "linktarget_raw", "extended_attributes", "generic_attributes", "device", "content"),
    *("subtree", "error"),
)
_SNAPSHOT_KEYS = (
    *("time", "parent", "tree", "paths", "hostname", "username", "uid", "gid", "excludes", "tags", "original"),
    "program_version",
)
_INDEX_KEYS = ("supersedes", "packs")
_DEVICES = (NodeType.DEV, NodeType.CHARDEV)


def tree_complaints(body: Buffer, nodes: list[Node]) -> Iterator[str]:
    """Complaints about a tree blob; `nodes` is what `decode_tree` read from it."""
    document, complaints = _document(body)
    yield from complaints
    if document is None:
        return
    if bytes(body[-1:]) != b"\n":
        yield "there is no newline at its end"
    if [*document] != ["nodes"]:
        yield "its keys are not as restic writes them"
    if document.get("nodes") is None:
        yield "its nodes are null"
    names = [node.name for node in nodes]
    if names != sorted(names):
        yield "its nodes are not sorted by the bytes of their names"
    for node, fields in zip(nodes, document.get("nodes") or (), strict=True):
        for complaint in (*_text_complaints(fields), *node_complaints(node)):
            yield f"{node.name!r}: {complaint}"


def node_complaints(node: Node) -> Iterator[str]:
    """Complaints about what a node says, whatever way it is written."""
    if node.mode & ~MODE_MASK:
        yield f"mode {node.mode} has bits that are not Go's: {node.mode & ~MODE_MASK:#o}"
    if node.mode & MODE_TYPE != TYPE_BITS[node.type]:
        yield f"mode {node.mode} is not that of a {node.type}"
    if (node.content is None) == (node.type is NodeType.FILE):
        yield "a file has no content" if node.content is None else f"a {node.type} has content"
    if (node.subtree is None) == (node.type is NodeType.DIR):
        yield "a dir has no subtree" if node.subtree is None else f"a {node.type} has a subtree"
    if bool(node.linktarget) != (node.type is NodeType.SYMLINK):
        yield "a symlink has no target" if not node.linktarget else f"a {node.type} has a link target"
    if node.device and node.type not in _DEVICES:
        yield f"a {node.type} has a device number"
    if node.type is not NodeType.FILE and node.size:
        yield f"a {node.type} has a size"


def snapshot_complaints(body: Buffer) -> Iterator[str]:
    """Complaints about a snapshot's document."""
    document, complaints = _document(body)
    yield from complaints
    if document is None:
        return
    if not _in_order(document, _SNAPSHOT_KEYS):
        yield "its keys are not in restic's order"
    if not is_canonical_time(str(document.get("time"))):
        yield f"time {document.get('time')!r} is not written as Go does"
    if not document.get("paths"):
        yield "it names no path"


def index_complaints(body: Buffer) -> Iterator[str]:
    """Complaints about an index file's document."""
    document, complaints = _document(body)
    yield from complaints
    if document is not None and not _in_order(document, _INDEX_KEYS):
        yield "its keys are not in restic's order"


def _text_complaints(fields: Mapping[str, Any]) -> Iterator[str]:
    """Complaints about how a node is written."""
    if not _in_order(fields, _NODE_KEYS):
        yield "its keys are not in restic's order"
    missing = [key for key in ("mtime", "atime", "ctime", "uid", "gid", "content") if key not in fields]
    if missing:
        yield f"{', '.join(missing)} must be written even when empty"
    superfluous = [key for key in _OMITTED_WHEN_EMPTY if key in fields and _is_empty(fields[key])]
    if superfluous:
        yield f"{', '.join(superfluous)} must be left out when empty"
    if not is_quoted_as_go(fields["name"]):
        yield f"its name is written {fields['name']!r}, not as strconv.Quote does"
    for key in ("mtime", "atime", "ctime"):
        if key in fields and not is_canonical_time(str(fields[key])):
            yield f"{key} {fields[key]!r} is not written as Go does"
    raw = fields.get("linktarget_raw")
    if raw is not None and _is_utf8(raw):
        yield "linktarget_raw is only for targets that are no UTF-8"


def _is_empty(value: Any) -> bool:
    return value == "0" if isinstance(value, RawNumber) else not value


def is_quoted_as_go(quoted: str) -> bool:
    """Whether strconv.Quote of some version of Go writes the name so.

    Which characters print depends on the version's Unicode: where versions differ both ways are right.
    """
    name = unquote_name(quoted)
    expected = quote_name(name)
    if quoted == expected:
        return True
    return _with_doubtful_escaped(name, quoted) == _with_doubtful_escaped(name, expected)


def _with_doubtful_escaped(name: bytes, quoted: str) -> str:
    """`quoted` with the characters whose printing depends on Unicode's version all written one way."""
    for character in {*name.decode("utf-8", "replace")}:
        if _depends_on_version(character):
            code = ord(character)
            quoted = quoted.replace(f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}", character)
    return quoted


def _depends_on_version(character: str) -> bool:
    return unicodedata.ucd_3_2_0.category(character) == "Cn" and (
        is_printable(character) or unicodedata.category(character) == "Cn"
    )


def _document(body: Buffer) -> tuple[dict[str, Any] | None, list[str]]:
    """A document with its numbers as written, and complaints about its JSON."""
    doubled: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            doubled.append("a key comes twice")
        return fields

    text = str(body, "utf-8")
    document = json.loads(text, parse_int=RawNumber, parse_float=RawNumber, object_pairs_hook=collect)
    if not isinstance(document, dict):
        return None, ["it is no JSON object"]
    complaints = doubled[:1]
    if not doubled and not _is_go_json(text.removesuffix("\n"), document):
        complaints.append("it is not written as Go's encoding/json does")
    return document, complaints


def _is_go_json(text: str, document: dict[str, Any]) -> bool:
    try:
        expected = go_json(document)
    except RecursionError:
        return False
    # U+FFFD stands for itself where it is meant, and is escaped where bytes were no UTF-8: both may be right.
    text = _outside_pairs(text, lambda part: part.replace("\\ufffd", "\ufffd"))
    return text in (expected, _older_go(expected))


def _older_go(text: str) -> str:
    """Before Go 1.22 two control characters had no short escape."""
    return _outside_pairs(text, lambda part: part.replace("\\b", "\\u0008").replace("\\f", "\\u000c"))


def _outside_pairs(text: str, change: Callable[[str], str]) -> str:
    """Change what is between escaped backslashes, so that none is taken for the beginning of an escape."""
    return "\\\\".join(change(part) for part in text.split("\\\\"))


def _in_order(fields: Mapping[str, Any], order: tuple[str, ...]) -> bool:
    places = [order.index(key) for key in fields if key in order]
    return places == sorted(places)


def _is_utf8(raw: str) -> bool:
    try:
        base64.b64decode(raw, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return True
