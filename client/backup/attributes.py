"""What of a file's metadata restic's format has no place for.

Kept true: it is named, and the rest of the file is in the snapshot as it is.
"""

from collections.abc import Callable
from dataclasses import replace

from client.vault.nodes import Node

Attributes = tuple[tuple[str, bytes], ...]


def storable(node: Node, warn: Callable[[str], None]) -> Node:
    """The node with the attributes that `storable_attributes` answers: the same node, if that is all."""
    kept = storable_attributes(node.extended_attributes, warn)
    return node if kept is node.extended_attributes else replace(node, extended_attributes=kept)


def storable_attributes(attributes: Attributes, warn: Callable[[str], None]) -> Attributes:
    """All but the extended attributes whose names are no UTF-8, each of which is a warning; the same tuple, if all are.

    In a tree names are JSON strings. restic 0.14 puts U+FFFD for what is no UTF-8, and so restores another attribute.
    """
    nameless = [name for name, _ in attributes if not _is_text(name)]
    for name in nameless:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        warn(f"its attribute {shown} is left out: its name is no UTF-8, for which there is no place")
    return tuple(pair for pair in attributes if pair[0] not in nameless) if nameless else attributes


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
