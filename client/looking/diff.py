"""What differs between two snapshots.

Kept true: trees that are equal are not read; memory is that of two trees at each level of folders. A tree that cannot
be read is told, and the rest is compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from client.errors import DamagedVault, NoSuchPath, ObjectMissing
from client.vault.blobs import BlobId
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader
from client.vault.walk import find_node, path_parts, subtree_of

Unread = Callable[[bytes, DamagedVault | ObjectMissing], None]
_Pair = tuple[Node | None, Node | None]
# What a person changes. Times of access and of status, inodes and counts of links change by themselves.
_METADATA = ("mode", "mtime_ns", "uid", "gid", "user", "group", "extended_attributes")


class Change(StrEnum):
    """What became of a path; `content` is also a link's target and a device's number."""

    ADDED = "added"
    REMOVED = "removed"
    TYPE = "type"
    CONTENT = "content"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Difference:
    """A path that is not the same in both; `metadata` names what of it differs where both have the path."""

    path: bytes
    change: Change
    old: Node | None
    new: Node | None
    metadata: tuple[str, ...] = ()


@dataclass(slots=True)
class Amount:
    """How many things of each kind, and the bytes of the files."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    bytes: int = 0

    def add(self, node: Node) -> None:
        self.files += node.type is NodeType.FILE
        self.dirs += node.type is NodeType.DIR
        self.others += node.type not in (NodeType.FILE, NodeType.DIR)
        self.bytes += node.size if node.type is NodeType.FILE else 0


@dataclass(slots=True)
class Totals:
    """All differences told so far; of what changed its type, the old is removed and the new added.

    `changed` counts what has other content, with the bytes that it has now.
    """

    added: Amount = field(default_factory=Amount)
    removed: Amount = field(default_factory=Amount)
    changed: Amount = field(default_factory=Amount)
    types: int = 0
    metadata: int = 0


class Differ:
    """Compares two snapshots. `unread` is told of folders whose trees cannot be read, by their paths."""

    def __init__(self, trees: TreeReader, unread: Unread) -> None:
        self._trees = trees
        self._unread = unread
        self.totals = Totals()

    def diff(self, old: Snapshot, new: Snapshot, path: bytes = b"/") -> Iterator[Difference]:
        """What differs at `path` and below it, in the order of `ls`.

        Raises NoSuchPath before anything is told if neither has it, DamagedVault if a folder above cannot be read,
        StoreError.
        """
        parts = path_parts(path)
        if not parts:
            return self._compare(b"", self._entered(b"", old.tree, new.tree))
        pair = find_node(self._trees, old.tree, parts), find_node(self._trees, new.tree, parts)
        if pair == (None, None):
            raise NoSuchPath(snapshot=new.short_id, path=path.decode("utf-8", "surrogateescape"))
        return self._compare(b"".join(b"/" + part for part in parts[:-1]), iter([pair]))

    def _compare(self, above: bytes, pairs: Iterator[_Pair]) -> Iterator[Difference]:
        stack = [(above, pairs)]
        while stack:
            folder, remaining = stack[-1]
            try:
                pair = next(remaining, None)
            except (DamagedVault, ObjectMissing) as error:
                self._unread(folder or b"/", error)
                pair = None
            if pair is None:
                stack.pop()
                continue
            old, new = pair
            path = folder + b"/" + (new or old or _nothing()).name
            difference = _difference(path, old, new)
            if difference is not None:
                self._count(difference)
                yield difference
            old_tree, new_tree = (None if node is None else subtree_of(node) for node in pair)
            if old_tree != new_tree:
                stack.append((path, self._entered(path, old_tree, new_tree)))

    def _entered(self, path: bytes, old: BlobId | None, new: BlobId | None) -> Iterator[_Pair]:
        """The pairs of two folders, read when the first is asked for."""
        if old == new:
            return
        yield from _pairs(self._nodes(path, old), self._nodes(path, new))

    def _nodes(self, path: bytes, tree: BlobId | None) -> Iterator[Node]:
        return iter(()) if tree is None else _in_order(self._trees.nodes(tree), path)

    def _count(self, difference: Difference) -> None:
        totals, old, new = self.totals, difference.old, difference.new
        match difference.change:
            case Change.METADATA:
                totals.metadata += 1
            case Change.CONTENT if new is not None:
                totals.changed.add(new)
            case change:
                totals.types += change is Change.TYPE
                if old is not None:
                    totals.removed.add(old)
                if new is not None:
                    totals.added.add(new)


def _difference(path: bytes, old: Node | None, new: Node | None) -> Difference | None:
    if old is None or new is None:
        return Difference(path, Change.ADDED if old is None else Change.REMOVED, old, new)
    metadata = tuple(name.removesuffix("_ns") for name in _METADATA if getattr(old, name) != getattr(new, name))
    if old.type is not new.type:
        return Difference(path, Change.TYPE, old, new, metadata)
    if _content(old) != _content(new):
        return Difference(path, Change.CONTENT, old, new, metadata)
    return Difference(path, Change.METADATA, old, new, metadata) if metadata else None


def _content(node: Node) -> object:
    return node.content or (), node.size, node.linktarget, node.device


def _pairs(olds: Iterator[Node], news: Iterator[Node]) -> Iterator[_Pair]:
    """The nodes of two folders by their names, each with its counterpart if there is one."""
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.name < new.name):
            yield old, None
            old = next(olds, None)
        elif old is None or new.name < old.name:
            yield None, new
            new = next(news, None)
        else:
            yield old, new
            old, new = next(olds, None), next(news, None)


def _in_order(nodes: Iterator[Node], path: bytes) -> Iterator[Node]:
    """Raises DamagedVault where names do not ascend, as counterparts would be missed then."""
    last: bytes | None = None
    for node in nodes:
        if last is not None and node.name <= last:
            raise DamagedVault(name=path.decode(errors="backslashreplace"), detail="its names are not in order")
        last = node.name
        yield node


def _nothing() -> Node:
    raise AssertionError("one of a pair is there")
