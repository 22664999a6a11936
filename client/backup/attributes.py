"""What of a file's metadata restic's format has no place for.

Kept true: it is named, and the rest of the file is in the snapshot as it is.
"""

from dataclasses import replace

from client.backup.request import Counters
from client.vault.nodes import Node


def storable(node: Node, path: bytes, counters: Counters) -> Node:
    """The node without extended attributes whose names are no UTF-8, each of which is a warning.

    In a tree names are JSON strings. restic 0.14 puts U+FFFD for what is no UTF-8, and so restores another attribute.
    """
    if not node.extended_attributes:
        return node
    kept = tuple(pair for pair in node.extended_attributes if _is_text(pair[0]))
    if len(kept) == len(node.extended_attributes):
        return node
    for name, _ in node.extended_attributes:
        if not _is_text(name):
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            counters.warn(path, f"its attribute {shown} is left out: its name is no UTF-8, for which there is no place")
    return replace(node, extended_attributes=kept)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
