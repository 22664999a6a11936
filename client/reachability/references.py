"""What a tree refers to: folders' trees and files' blobs, without making anything of the rest.

Kept true: nothing that a tree names is passed over, whatever the type of its node; a tree that does not have the form
of one is damage. Most of a prune is spent here and where blobs are looked up, so that nodes are not decoded.
"""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from client.errors import DamagedVault
from client.vault.blobs import ID_BYTES
from client.vault.nodes import iterate_tree

_AT_ONCE = 4 << 20  # bytes of a tree that is parsed as a whole, which takes up to 8 times as many
_DIGITS = 2 * ID_BYTES


def references(body: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The subtree and the content of each node, as ids one after another, empty where there is none.

    Raises DamagedVault, whose message calls the tree `name`.
    """
    if len(body) > _AT_ONCE:
        for node in iterate_tree(body, name):
            yield node.subtree or b"", b"".join(node.content or ())
        return
    try:
        nodes = json.loads(str(body, "utf-8"))["nodes"] or ()
        for node in nodes:
            subtree, content = node.get("subtree"), node.get("content")
            yield _ids([subtree], name) if subtree is not None else b"", _ids(content, name) if content else b""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedVault(name=name, detail=f"it does not have the form of a tree ({error})") from None


def _ids(digits: Any, name: str) -> bytes:
    if not isinstance(digits, list) or {*map(len, digits)} != {_DIGITS}:
        _refuse(name)
    ids = bytes.fromhex("".join(digits))
    if len(ids) != len(digits) * ID_BYTES:
        _refuse(name)
    return ids


def _refuse(name: str) -> NoReturn:
    raise DamagedVault(name=name, detail="it names a blob by what is no id")
