"""Where in all snapshots there is something: one walk over the trees of many snapshots at once.

Kept true: at each path a tree is read once, however many snapshots share it; memory is that of one folder's finds and
folders at each level, of which at most `FOLDER_NAMES` names are held at once, whatever the number of snapshots and
files. A tree that cannot be read is told, and the search goes on beside it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from client.errors import DamagedVault, ObjectMissing
from client.patterns import Pattern
from client.vault.blobs import BlobId
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader
from client.vault.walk import subtree_of

FOLDER_NAMES = 50_000  # held at once; a folder with more is read several times

Unread = Callable[[bytes, DamagedVault | ObjectMissing], None]
_SnapshotSet = int  # bit n: the snapshot number n


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: any of `patterns`, in sizes (bytes) and times (nanoseconds since 1970), ends included.

    A size asks for files.
    """

    patterns: Sequence[Pattern]
    smallest: int | None = None
    largest: int | None = None
    oldest: int | None = None
    newest: int | None = None

    def has(self, node: Node) -> bool:
        """Whether it is what is wanted, but for its path."""
        if (self.smallest is not None or self.largest is not None) and node.type is not NodeType.FILE:
            return False
        return (
            (self.smallest is None or node.size >= self.smallest)
            and (self.largest is None or node.size <= self.largest)
            and (self.oldest is None or node.mtime_ns >= self.oldest)
            and (self.newest is None or node.mtime_ns <= self.newest)
        )


@dataclass(frozen=True, slots=True)
class Version:
    """What is at a path in some snapshots, oldest first; `node` is that of the first one read."""

    node: Node
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A path that matches; its versions, by the first snapshot of each, differ in type, size, time or content."""

    path: bytes
    versions: tuple[Version, ...]


@dataclass(slots=True)
class _Name:
    """One name of a folder: what matches, and the trees to enter."""

    versions: dict[tuple[NodeType, int, int, int], tuple[Node, _SnapshotSet]] = field(default_factory=dict)
    trees: dict[BlobId, _SnapshotSet] = field(default_factory=dict)


class Finder:
    """Looks through snapshots. `unread` is told of folders whose trees cannot be read, by their paths."""

    def __init__(self, trees: TreeReader, wanted: Wanted, unread: Unread) -> None:
        self._trees = trees
        self._wanted = wanted
        self._unread = unread
        self._snapshots: list[Snapshot] = []

    def find(self, snapshots: Sequence[Snapshot]) -> Iterator[Found]:
        """What matches, folder by folder as `ls` lists. Raises StoreError."""
        self._snapshots = sorted(snapshots, key=lambda one: (one.time_ns, one.id))
        roots: dict[BlobId, _SnapshotSet] = {}
        for number, snapshot in enumerate(self._snapshots):
            roots[snapshot.tree] = roots.get(snapshot.tree, 0) | 1 << number
        stack = [self._folder(b"", roots)]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                continue
            path, name = step
            if name.versions:
                yield Found(path, self._versions(name))
            if name.trees:
                stack.append(self._folder(path, name.trees))

    def _folder(self, folder: bytes, trees: dict[BlobId, _SnapshotSet]) -> Iterator[tuple[bytes, _Name]]:
        """The names of a folder that match or are to be entered, in order."""
        bounds = _Bounds()
        while bounds.more:
            names: dict[bytes, _Name] = {}
            for tree, snapshots in trees.items():
                self._read(folder, tree, snapshots, names, bounds)
            bounds.next_part()
            for name in sorted(names):
                yield folder + b"/" + name, names.pop(name)

    def _read(
        self, folder: bytes, tree: BlobId, snapshots: _SnapshotSet, names: dict[bytes, _Name], bounds: "_Bounds"
    ) -> None:
        try:
            for node in self._trees.nodes(tree):
                if bounds.has(node.name):
                    self._look(folder, node, snapshots, names)
                    if len(names) > FOLDER_NAMES:
                        bounds.shorten(names)
        except (DamagedVault, ObjectMissing) as error:
            if bounds.is_first:
                self._unread(folder or b"/", error)

    def _look(self, folder: bytes, node: Node, snapshots: _SnapshotSet, names: dict[bytes, _Name]) -> None:
        path = os.fsdecode(folder + b"/" + node.name)
        if self._wanted.has(node) and any(pattern.matches_itself(path) for pattern in self._wanted.patterns):
            name = names.setdefault(node.name, _Name())
            key = (node.type, node.size, node.mtime_ns, hash((node.content, node.linktarget)))
            first, known = name.versions.get(key, (node, 0))
            name.versions[key] = first, known | snapshots
        subtree = subtree_of(node)
        if subtree is not None and any(pattern.may_match_below(path) for pattern in self._wanted.patterns):
            name = names.setdefault(node.name, _Name())
            name.trees[subtree] = name.trees.get(subtree, 0) | snapshots

    def _versions(self, name: _Name) -> tuple[Version, ...]:
        # The lowest bit is the oldest snapshot that has it.
        ordered = sorted(name.versions.values(), key=lambda version: version[1] & -version[1])
        return tuple(Version(node, tuple(self._of(snapshots))) for node, snapshots in ordered)

    def _of(self, snapshots: _SnapshotSet) -> Iterator[Snapshot]:
        while snapshots:
            lowest = snapshots & -snapshots
            yield self._snapshots[lowest.bit_length() - 1]
            snapshots ^= lowest


class _Bounds:
    """Which names of a folder are held: those after the last part's, up to a bound once there are too many."""

    def __init__(self) -> None:
        self._after: bytes | None = None
        self._last: bytes | None = None
        self.more = True

    @property
    def is_first(self) -> bool:
        return self._after is None

    def has(self, name: bytes) -> bool:
        return (self._after is None or name > self._after) and (self._last is None or name <= self._last)

    def shorten(self, names: dict[bytes, _Name]) -> None:
        """Let go of the later half of the names; they come in another part."""
        kept = sorted(names)
        for name in kept[len(kept) // 2 + 1 :]:
            del names[name]
        self._last = kept[len(kept) // 2]

    def next_part(self) -> None:
        self._after, self._last, self.more = self._last, None, self._last is not None
