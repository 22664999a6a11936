"""Everything that snapshots reach, looked at strictly, and which files of which snapshots a damage touches.

Kept true: trees that several snapshots share are looked at once. A tree is *touched* if it is lost itself, a file in it
has lost blobs, or a folder in it has a touched tree; by those alone the second walk goes, so that a sound vault is not
walked twice. Memory does not grow with the vault, but for a few bits a tree, nor with the number of snapshots but for
what is touched in one folder.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind
from client.vault.damage import Damage
from client.vault.index import Index, Location
from client.vault.known_lengths import KnownLengths
from client.vault.modes import NodeType
from client.vault.nodes import Node, decode_tree
from client.vault.places import PlaceSet
from client.vault.problems import Problem, Progress, failure
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, decode_snapshot
from client.vault.strict import snapshot_complaints, tree_complaints
from domain.names import ObjectName


class Touched(NamedTuple):
    """A file, or with a `/` at its end a folder's list, that is lost in some snapshots, and the objects it is in."""

    path: bytes
    objects: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]


@dataclass(slots=True)
class _Open:
    """A tree whose folders are still to be looked at."""

    location: Location
    path: bytes
    below: list[tuple[BlobId, bytes]] = field(default_factory=list)
    is_touched: bool = False


class TreeCheck:
    """Walks over all snapshots; afterwards it says what is touched."""

    def __init__(
        self, vault: Vault, index: Index, lengths: KnownLengths, damage: Damage, progress: Progress = lambda *_: None
    ) -> None:
        """`damage` is what is known of packs; what of trees is found bad is added to it."""
        self._vault = vault
        self._index = index
        self._lengths = lengths
        self._damage = damage
        self._progress = progress
        self._seen = PlaceSet()
        self._touched = PlaceSet()
        self._lost: set[BlobId] = set()  # trees
        self._snapshots: list[Snapshot] = []
        self.unreadable: list[ObjectName] = []  # snapshots
        self._passed_over: list[Problem] = []  # places that are bad, of trees that lie whole elsewhere

    def run(self, snapshots: Sequence[ObjectName]) -> Iterator[Problem]:
        """Look at the snapshots. Raises StoreError only when the store itself fails."""
        for name in snapshots:
            try:
                body = self._vault.load_unpacked(name)
                snapshot = decode_snapshot(body, name.id)
            except (DamagedVault, ObjectMissing) as error:
                self.unreadable.append(name)
                yield failure(name, error)
                continue
            for complaint in snapshot_complaints(body):
                yield Problem(str(name), complaint)
            yield from self._walk(snapshot)
            if self.is_touched(snapshot.tree):
                self._snapshots.append(snapshot)

    @property
    def touched_snapshots(self) -> Sequence[Snapshot]:
        """Those that have lost something."""
        return self._snapshots

    def is_lost(self, tree: BlobId) -> bool:
        """Whether a tree that was met cannot be read."""
        return tree in self._lost

    def is_touched(self, tree: BlobId) -> bool:
        """Whether a tree that was met, or anything below it, has lost something."""
        if tree in self._lost:
            return True
        location = self._index.find(BlobKind.TREE, tree) if len(self._touched) else None
        return location is not None and location in self._touched

    def is_whole(self, node: Node) -> bool:
        """Whether a file has lost nothing."""
        return not self._lost_content(node)

    def touches(self) -> Iterator[Touched]:
        """What the damage touches: all snapshots at once, path by path. Raises StoreError."""
        roots: dict[BlobId, list[Snapshot]] = {}
        for snapshot in self._snapshots:
            roots.setdefault(snapshot.tree, []).append(snapshot)
        waiting = [(b"/", roots)]
        while waiting:
            path, trees = waiting.pop()
            below: dict[bytes, dict[BlobId, list[Snapshot]]] = {}
            found: dict[tuple[bytes, tuple[str, ...]], list[Snapshot]] = {}
            for tree, snapshots in trees.items():
                if self.is_lost(tree):
                    objects = self._damage.objects_of(BlobKind.TREE, tree)
                    found.setdefault((path, objects), []).extend(snapshots)
                    continue
                for node in self.load(tree):
                    if node.subtree is not None and self.is_touched(node.subtree):
                        folder = below.setdefault(path + node.name + b"/", {})
                        folder.setdefault(node.subtree, []).extend(snapshots)
                    elif lost := self._lost_content(node):
                        objects = tuple(dict.fromkeys(name for blob in lost for name in self._objects_of(blob)))
                        found.setdefault((path + node.name, objects), []).extend(snapshots)
            yield from (Touched(name, objects, tuple(found[name, objects])) for name, objects in sorted(found))
            waiting += [(name, below[name]) for name in sorted(below, reverse=True)]

    def load(self, tree: BlobId) -> list[Node]:
        """The nodes of a tree, from whichever place has it whole. Raises DamagedVault, StoreError."""
        return decode_tree(self.load_body(tree), f"tree {tree.hex()}")

    def load_body(self, tree: BlobId) -> bytes:
        """The blob of a tree. Raises DamagedVault, StoreError."""
        failed: DamagedVault | ObjectMissing | None = None
        for location in self._index.find_all(BlobKind.TREE, tree):
            try:
                return self._vault.load_at(location)
            except (DamagedVault, ObjectMissing) as error:
                failed = error
                if not self._damage.is_bad(location):
                    self._damage.add_blobs(location.pack, [tree])
                    self._passed_over.append(failure(location.pack, error))
        raise failed or DamagedVault(name=f"tree blob {tree.hex()}", detail="no index file lists it")

    def _walk(self, snapshot: Snapshot) -> Iterator[Problem]:
        opened = yield from self._enter(snapshot.tree, b"/", snapshot)
        stack = [opened] if opened else []
        while stack:
            top = stack[-1]
            if not top.below:
                stack.pop()
                if top.is_touched:
                    self._touched.add(top.location)
                    if stack:
                        stack[-1].is_touched = True
                continue
            tree, path = top.below.pop()
            opened = yield from self._enter(tree, path, snapshot)
            if opened is not None:
                stack.append(opened)
            elif self.is_touched(tree):
                top.is_touched = True

    def _enter(self, tree: BlobId, path: bytes, snapshot: Snapshot) -> Generator[Problem, None, _Open | None]:
        """Look at a tree; nothing is left to do with one that was met before, or is lost."""
        location = self._index.find(BlobKind.TREE, tree)
        if tree in self._lost or (location is not None and not self._seen.add(location)):
            return None
        self._progress("trees", len(self._seen), 0)
        name = f"tree {tree.hex()} ({path.decode(errors='backslashreplace')} in snapshot {snapshot.short_id})"
        try:
            body = self.load_body(tree)
            nodes = decode_tree(body, name)
            if location is None:
                raise AssertionError("what was loaded has a place")
        except (DamagedVault, ObjectMissing) as error:
            self._lost.add(tree)
            self._passed_over.clear()
            yield failure(name, error)
            return None
        yield from self._passed_over
        self._passed_over.clear()
        for complaint in tree_complaints(body, nodes):
            yield Problem(name, complaint)
        opened = _Open(location, path)
        for node in nodes:
            yield from (replace(problem, name=name) for problem in self._check_content(node))
            opened.is_touched |= bool(self._lost_content(node))
            if node.subtree is not None:
                opened.below.append((node.subtree, path + node.name + b"/"))
        return opened

    def _check_content(self, node: Node) -> Iterator[Problem]:
        if node.type is not NodeType.FILE or node.content is None:
            return
        size = 0
        for blob in node.content:
            length = self._lengths.find(blob)
            if length is None:
                yield Problem("", f"{node.name!r}: data blob {blob.hex()} is in no index file")
                return
            size += length
        if size != node.size:
            yield Problem("", f"{node.name!r}: its size is {node.size}, that of its blobs {size}")

    def _lost_content(self, node: Node) -> list[BlobId]:
        """The blobs of a file that are lost. Where no place is known to be bad, a file of lengths says it quickly."""
        if node.type is not NodeType.FILE or not node.content:
            return []
        if not self._damage:
            return [blob for blob in node.content if self._lengths.find(blob) is None]
        return [blob for blob in node.content if self._damage.is_lost(BlobKind.DATA, blob)]

    def _objects_of(self, blob: BlobId) -> tuple[str, ...]:
        return self._damage.objects_of(BlobKind.DATA, blob)
