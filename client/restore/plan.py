"""The walk over a snapshot's trees that decides what to fetch and to make.

Kept true: the plan is handed out in windows of bounded size, so that memory does not grow with the snapshot; within a
window pieces come by pack. A folder's metadata is set in the window in which the walk leaves it, after all that is in
it; links come after all files of their window, so no file is ever written through one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from client.errors import DamagedVault, ObjectMissing
from client.restore.patterns import Includes, Wanted
from client.restore.request import Counters
from client.restore.target import TargetFolder
from client.restore.write import PlannedFile
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.trees import TreeReader
from domain.names import ObjectName

_WINDOW = 4096  # pieces, files and other things together
_MADE = frozenset({NodeType.SYMLINK, NodeType.DEV, NodeType.CHARDEV, NodeType.FIFO})


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file a blob goes."""

    file: PlannedFile
    offset: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Set a folder's metadata; make it first if it is wanted even when empty."""

    folder: TargetFolder
    wanted: bool


@dataclass(frozen=True, slots=True)
class MakeSpecial:
    """Make a symlink, FIFO or device."""

    folder: TargetFolder
    node: Node
    path: bytes


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Another name for a file that was restored before."""

    folder: TargetFolder
    node: Node
    path: bytes
    first: PlannedFile


@dataclass(slots=True)
class Window:
    """A part of the plan: `begin` these files, write all pieces, then do `after` in order."""

    pieces: dict[ObjectName, dict[PackEntry, list[Place]]] = field(default_factory=dict)
    begin: list[PlannedFile] = field(default_factory=list)
    after: list[Finish | MakeSpecial | MakeLink] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class _Walked:
    folder: TargetFolder
    nodes: Iterator[Node]
    wanted: bool  # the folder itself, and so all below it


class Planner:
    """Walks one snapshot, in one thread."""

    def __init__(
        self,
        trees: TreeReader,
        index: Index,
        includes: Includes,
        counters: Counters,
        hand_out: Callable[[Window], None],
    ) -> None:
        self._trees = trees
        self._index = index
        self._includes = includes
        self._counters = counters
        self._hand_out = hand_out
        self._window = Window()
        self.found_any = False  # that is wanted
        self._linked: dict[tuple[int, int], PlannedFile] = {}

    def plan(self, root: TargetFolder, tree: BlobId) -> None:
        """Walk everything below the root tree. Raises DamagedVault if that itself is lost, StoreError."""
        everything = self._includes.look(b"/") is Wanted.YES
        stack = [_Walked(root, iter(self._trees.load(tree)), everything)]
        while stack:
            walked = stack[-1]
            for node in walked.nodes:
                below = self._visit(walked, node)
                if below is not None:
                    stack.append(below)
                    break
            else:
                stack.pop()
                if walked.folder.node is not None:
                    self._later(Finish(walked.folder, walked.wanted))
        self._counters.planned = True
        self._hand_out(self._window)

    def _visit(self, walked: _Walked, node: Node) -> _Walked | None:
        folder = walked.folder
        path = folder.path.rstrip(b"/") + b"/" + node.name
        wanted = Wanted.YES if walked.wanted else self._includes.look(path)
        if wanted is Wanted.NO:
            return None
        self.found_any = self.found_any or wanted is Wanted.YES
        if node.type is NodeType.DIR:
            return self._folder(folder, node, path, wanted=wanted is Wanted.YES)
        if wanted is not Wanted.YES:
            return None
        if node.type is NodeType.FILE:
            self._file(folder, node, path)
        elif node.type in _MADE:
            self._later(MakeSpecial(folder, node, path))
        elif node.type is not NodeType.SOCKET:  # a socket lives only as long as the program that made it
            self._counters.warn(path, f"not restored: a node of type {node.type} cannot be made")
        return None

    def _folder(self, above: TargetFolder, node: Node, path: bytes, *, wanted: bool) -> _Walked | None:
        folder = TargetFolder(above, node.name, path, node)
        nodes: list[Node] = []
        try:
            if node.subtree is None:
                self._counters.lose(path, "its list of files is missing: nothing in it was restored")
            else:
                nodes = self._trees.load(node.subtree)
        except (DamagedVault, ObjectMissing) as error:
            self._counters.lose(path, f"its list of files is lost ({error}): nothing in it was restored")
        return _Walked(folder, iter(nodes), wanted)

    def _file(self, folder: TargetFolder, node: Node, path: bytes) -> None:
        if node.links > 1:
            first = self._linked.get((node.device_id, node.inode))
            if first is not None and first.node.content == node.content:
                self._later(MakeLink(folder, node, path, first))
                return
        content = node.content or ()
        found = [self._index.find(BlobKind.DATA, blob) for blob in content]
        size = sum(location.entry.length_plain for location in found if location)
        file = PlannedFile(folder, node, path, size, pieces=len(content), waiting=len(content))
        if node.links > 1:
            self._linked[node.device_id, node.inode] = file
        self._counters.add(total_files=1, total_bytes=size)
        if None in found:
            blob = content[found.index(None)]
            file.failed = file.lost = True
            self._counters.lose(path, f"no index file lists its blob {blob.hex()}")
            return
        if file.pieces != 1:
            self._window.begin.append(file)
        self._grow()
        offset = 0
        for location in found:
            if location is not None:
                entries = self._window.pieces.setdefault(location.pack, {})
                entries.setdefault(location.entry, []).append(Place(file, offset))
                offset += location.entry.length_plain
                self._grow()

    def _later(self, action: Finish | MakeSpecial | MakeLink) -> None:
        self._window.after.append(action)
        self._grow()

    def _grow(self) -> None:
        self._window.size += 1
        if self._window.size >= _WINDOW:
            window, self._window = self._window, Window()
            self._hand_out(window)
