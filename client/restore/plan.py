"""The walk over a snapshot's trees that decides what to fetch and to make.

Kept true: the plan is handed out in windows of bounded size, so that memory does not grow with the snapshot; within a
window pieces come by pack. A window is kept until the next one is full: a small file of that one whose blob is fetched
in this one is written with it, so that copies that lie near each other cost one request. A folder's metadata is set in
the window in which the walk leaves it, after all that is in it. Links come after all files of their window; that no
file of a later one is written through them is the writers' affair, who follow none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from client.errors import DamagedVault, ObjectMissing
from client.restore.patterns import Wanted
from client.restore.present import Found, Judge, Verdict
from client.restore.request import Counters
from client.restore.selection import Selection
from client.restore.target import PARTIAL, TargetFolder
from client.restore.write import Piece, PlannedFile
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index, Location
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.trees import TreeReader
from domain.names import ObjectName

_FIRST_WINDOW, _WINDOW = 512, 4096  # pieces, files and other things together; each is twice as large as the one before
_AHEAD = 256  # nodes of a folder whose blobs are looked up at once, if each is of one
_MADE = frozenset({NodeType.SYMLINK, NodeType.DEV, NodeType.CHARDEV, NodeType.FIFO})


class Place(NamedTuple):
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
    """Make a symlink, FIFO or device; `replaces` what has its name."""

    folder: TargetFolder
    node: Node
    path: bytes
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Another name for a file that was restored before; `replaces` what has it."""

    folder: TargetFolder
    node: Node
    path: bytes
    first: PlannedFile
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Compare a file that is written with the blobs that it was made of."""

    file: PlannedFile
    pieces: Sequence[Piece]
    path: bytes


Action = Finish | MakeSpecial | MakeLink | ReadBack


@dataclass(slots=True)
class Window:
    """A part of the plan: `begin` these files, write all pieces, then do `after` in order."""

    pieces: dict[ObjectName, dict[PackEntry, list[Place]]] = field(default_factory=dict)
    begin: list[PlannedFile] = field(default_factory=list)
    after: list[Action] = field(default_factory=list)
    size: int = 0
    total_files: int = 0  # that were planned in it, of so many bytes
    total_bytes: int = 0

    def has(self, location: Location) -> bool:
        """Whether a blob is fetched in it."""
        return location.entry in self.pieces.get(location.pack, ())

    def add(self, location: Location, place: Place) -> None:
        """Fetch a blob, if it is not fetched in it yet, and write it there too."""
        self.pieces.setdefault(location.pack, {}).setdefault(location.entry, []).append(place)


@dataclass(slots=True)
class _Walked:
    folder: TargetFolder
    nodes: Iterator[Node]
    wanted: bool  # what is below, but for excludes
    finished: bool  # the folder itself gets its metadata
    names: frozenset[bytes]  # what is in it already
    ahead: Iterator[Node]  # those whose blobs are not looked up yet
    located: Mapping[BlobId, Location | None] = field(default_factory=dict)


class Planner:
    """Walks one snapshot, in one thread. With `verify`, what is written is read back."""

    def __init__(
        self,
        trees: TreeReader,
        index: Index,
        selection: Selection,
        counters: Counters,
        judge: Judge,
        *,
        hand_out: Callable[[Window], None],
        verify: bool = False,
    ) -> None:
        self._trees = trees
        self._index = index
        self._selection = selection
        self._counters = counters
        self._judge = judge
        self._hand_out = hand_out
        self._verify = verify
        self._window = Window()
        self._before = Window()  # which is not handed out yet
        self._most = _FIRST_WINDOW  # in this window
        self.found_any = False  # that is wanted
        self.small_files = 0  # that were planned so far, each of one piece
        self._linked: dict[tuple[int, int], PlannedFile] = {}

    def plan(self, root: TargetFolder, tree: BlobId) -> None:
        """Walk everything below the root tree. Raises DamagedVault if that itself is lost, StoreError."""
        everything = self._selection.look(b"/") is Wanted.YES
        stack = [self._enter(root, self._trees.load(tree), wanted=everything, finished=False)]
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
                    self._later(Finish(walked.folder, walked.finished))
        self._pass_on()
        self._counters.planned = True
        self._pass_on()

    def _enter(self, folder: TargetFolder, nodes: list[Node], *, wanted: bool, finished: bool) -> _Walked:
        folder.taken = frozenset(node.name for node in nodes if node.name.startswith(PARTIAL))
        names = self._judge.names(folder, nodes)
        return _Walked(folder, iter(nodes), wanted, finished, names, ahead=iter(nodes))

    def _visit(self, walked: _Walked, node: Node) -> _Walked | None:
        folder = walked.folder
        path = folder.path.rstrip(b"/") + b"/" + node.name
        wanted = Wanted.YES
        if not walked.wanted or self._selection.has_excludes:
            wanted = self._selection.look(path)
        if wanted is Wanted.NO:
            return None
        self.found_any = self.found_any or wanted is Wanted.YES
        found = self._judge.look(folder, node, path, walked.names)
        if node.type is NodeType.DIR:
            return self._folder(folder, node, path, found, wanted=wanted is Wanted.YES)
        if wanted is not Wanted.YES or found is None or found.verdict is Verdict.LEAVE:
            return None
        if node.type is NodeType.FILE:
            self._file(walked, node, path, found)
        elif node.type in _MADE:
            if self._judge.may_make(folder, node, path, found):
                self._later(MakeSpecial(folder, node, path, replaces=found.stat is not None))
        elif node.type is not NodeType.SOCKET:  # a socket lives only as long as the program that made it
            self._counters.warn(path, f"not restored: a node of type {node.type} cannot be made")
        return None

    def _folder(
        self, above: TargetFolder, node: Node, path: bytes, found: Found | None, *, wanted: bool
    ) -> _Walked | None:
        folder = TargetFolder(above, node.name, path, node)
        nodes: list[Node] = []
        try:
            if node.subtree is None:
                self._counters.lose(path, "its list of files is missing: nothing in it was restored")
            else:
                nodes = self._trees.load(node.subtree)
        except (DamagedVault, ObjectMissing) as error:
            self._counters.lose(path, f"its list of files is lost ({error}): nothing in it was restored")
        if found is None or not self._judge.may_enter(folder, found, wanted=wanted):
            return None
        finished = wanted and found.verdict is not Verdict.LEAVE
        return self._enter(folder, nodes, wanted=wanted, finished=finished)

    def _file(self, walked: _Walked, node: Node, path: bytes, found: Found) -> None:
        folder = walked.folder
        if node.links > 1:
            first = self._linked.get((node.device_id, node.inode))
            if first is not None and first.node.content == node.content:
                if self._judge.may_link(path, found, first):
                    self._later(MakeLink(folder, node, path, first, replaces=found.stat is not None))
                return
        content = node.content or ()
        pieces: list[Piece] = []
        missing: BlobId | None = None
        size = 0
        for blob, location in zip(content, self._locate(walked, content), strict=True):
            if location is None:
                missing = missing or blob
            else:
                pieces.append(Piece(location, size))
                size += location.entry.length_plain
        file = PlannedFile(folder, node, path, size, pieces=len(content), waiting=len(content))
        if node.links > 1:
            self._linked[node.device_id, node.inode] = file
        self._window.total_files += 1
        self._window.total_bytes += size
        if missing is not None:
            file.failed = file.lost = True
            self._counters.lose(path, f"no index file lists its blob {missing.hex()}")
            return
        right = self._judge.right_pieces(file, pieces, found, walked.names)
        if right is not None:
            self._write(file, pieces, right)

    def _locate(self, walked: _Walked, content: Sequence[BlobId]) -> Sequence[Location | None]:
        """Where the blobs of a node lie. Those of the nodes after it in its folder are looked up with them."""
        if len(content) != 1 or not walked.wanted:
            return self._index.find_one_of_each(BlobKind.DATA, content)
        (blob,) = content
        while blob not in walked.located and (nodes := list(islice(walked.ahead, _AHEAD))):
            blobs = [node.content[0] for node in nodes if node.content is not None and len(node.content) == 1]
            found = self._index.find_one_of_each(BlobKind.DATA, blobs)
            walked.located = dict(zip(blobs, found, strict=True))
        return [walked.located.get(blob)]

    def _write(self, file: PlannedFile, pieces: Sequence[Piece], right: frozenset[int]) -> None:
        """Plan what is not in the target already."""
        file.waiting -= len(right)
        is_small = file.pieces == 1 and file.waiting == 1
        if is_small:
            self.small_files += 1
        else:
            self._window.begin.append(file)
        self._grow()
        for number, (location, offset) in enumerate(pieces):
            if number not in right:
                window = self._before if is_small and self._before.has(location) else self._window
                window.add(location, Place(file, offset))
                self._grow()
        if self._verify:
            self._later(ReadBack(file, pieces, file.path))

    def _later(self, action: Action) -> None:
        self._window.after.append(action)
        self._grow()

    def _grow(self) -> None:
        self._window.size += 1
        if self._window.size >= self._most:
            self._pass_on()

    def _pass_on(self) -> None:
        self._counters.add(total_files=self._window.total_files, total_bytes=self._window.total_bytes)
        self._most = min(2 * self._most, _WINDOW)
        full, self._before, self._window = self._before, self._window, Window()
        self._hand_out(full)
