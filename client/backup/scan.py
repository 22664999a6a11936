"""The walk over what is to be backed up, beside the tree of the parent snapshot.

Kept true: what the parent snapshot has, and type, size, inode and both times say is unchanged, is not opened; whatever
cannot be read is named with its reason and left out, and the walk goes on.
"""

import os
import stat
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, replace

from client.backup.attributes import storable
from client.backup.known import KnownTrees
from client.backup.request import Counters, FolderIdentity
from client.backup.selection import Selector
from client.backup.targets import Target, target_tree
from client.backup.trees import Folder, TreeWriter
from client.platforms.nodes import encoded_head, is_same, is_unchanged, read_node
from client.vault.blobs import BlobId
from client.vault.modes import NodeType
from client.vault.nodes import Node


@dataclass(frozen=True, slots=True)
class FileFound:
    """A regular file that has to be read. `known` is the parent snapshot's node of that name, if it was a file."""

    folder: Folder
    name: bytes
    path: bytes
    stat: os.stat_result
    known: Node | None


@dataclass(slots=True)
class _Entry:
    name: bytes
    path: bytes
    target: Target | None = None  # set above and at the paths that were given


@dataclass(frozen=True, slots=True)
class _Walk:
    """A folder that is being walked; `device` is the file system that what is in it must be on, if that matters."""

    folder: Folder
    entries: Iterator[_Entry]
    device: int | None = None


class Scanner:
    """Walks the targets in one thread and hands out what it finds."""

    def __init__(
        self,
        trees: TreeWriter,
        known: KnownTrees,
        counters: Counters,
        read: Callable[[FileFound], None],
        ensure_running: Callable[[], None],
        *,
        selector: Selector,
        excluded: Container[FolderIdentity] = frozenset(),
    ) -> None:
        self._trees = trees
        self._known = known
        self._counters = counters
        self._read = read
        self._ensure_running = ensure_running
        self._selector = selector
        self._excluded = excluded
        self._given: frozenset[bytes] = frozenset()

    def scan(self, paths: Collection[bytes], known_tree: BlobId | None) -> None:
        """Walk the absolute paths and all below; the folder tree is finished when all files handed out are."""
        self._given = frozenset(path.rstrip(b"/") or b"/" for path in paths)
        root = target_tree(paths)
        stack = [self._root(root, known_tree)]
        while stack:
            self._ensure_running()
            walk = stack[-1]
            for entry in walk.entries:
                opened = self._visit(walk, entry)
                if opened is not None:
                    stack.append(opened)
                    break
            else:
                stack.pop()
                self._trees.finish(walk.folder)

    def _root(self, root: Target, known_tree: BlobId | None) -> _Walk:
        folder = Folder(None, None, self._known.load(known_tree), above_target=not root.whole)
        if root.whole:
            return _Walk(folder, self._list(root.path), os.lstat(root.path).st_dev)
        return _Walk(folder, _below(root))

    def _visit(self, walk: _Walk, entry: _Entry) -> _Walk | None:
        """Deal with one entry; for a folder, answer what to walk next."""
        target = entry.target
        above_target = target is not None and not target.whole
        folder = walk.folder
        if not above_target and self._selector.leaves_out_path(entry.path):
            return None
        try:
            # On the way to a given path links are followed, as the system did when it found the path.
            found = os.stat(entry.path) if above_target else os.lstat(entry.path)
            if not above_target and self._selector.leaves_out(entry.path, found):
                return None
            if stat.S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) in self._excluded:
                    return None
                return self._open_folder(walk, entry, found, folder.known.find(entry.name))
            if self._is_elsewhere(walk, entry, found):
                return None
            if stat.S_ISREG(found.st_mode):
                self._file(folder, entry, found)
            elif not stat.S_ISSOCK(found.st_mode):  # nothing in one can be kept or brought back: restic has none either
                self._special(folder, entry, found)
        except OSError as error:
            self._counters.warn(entry.path, reason(error))
        return None

    def _node(self, entry: _Entry, found: os.stat_result) -> Node:
        return storable(read_node(entry.name, entry.path, found), entry.path, self._counters)

    def _special(self, folder: Folder, entry: _Entry, found: os.stat_result) -> None:
        known = folder.known.find(entry.name)
        if known is not None and is_unchanged(known, found) and is_same(known, found):
            self._trees.reuse(folder, folder.known.position)
        else:
            self._trees.add(folder, self._node(entry, found))

    def _is_as_stored(self, folder: Folder, entry: _Entry, found: os.stat_result) -> bool:
        """Take a file over from the parent, if its node would come out the same to the last byte; nearly all do."""
        if folder.known.tree is None:
            return False
        content = folder.known.find_encoded(entry.name, encoded_head(entry.name, found))
        if content is None or not self._known.has_content(content):
            return False
        self._trees.reuse(folder, folder.known.position)
        size = found.st_size
        self._counters.add(files_unmodified=1, total_files=1, total_bytes=size, done_bytes=size)
        return True

    def _file(self, folder: Folder, entry: _Entry, found: os.stat_result) -> None:
        if self._is_as_stored(folder, entry, found):
            return
        known = folder.known.find(entry.name)
        if known is not None and known.type is not NodeType.FILE:
            known = None
        if known is not None and is_unchanged(known, found) and self._known.has_content(known.content or ()):
            if is_same(known, found):
                self._trees.reuse(folder, folder.known.position)
            else:
                fresh = self._node(entry, found)
                self._trees.add(folder, replace(fresh, content=known.content, size=known.size))
            size = found.st_size
            self._counters.add(files_unmodified=1, total_files=1, total_bytes=size, done_bytes=size)
            return
        self._counters.add(total_files=1, total_bytes=found.st_size)
        self._trees.expect(folder)
        self._read(FileFound(folder, entry.name, entry.path, found, known))

    def _open_folder(self, walk: _Walk, entry: _Entry, found: os.stat_result, known: Node | None) -> _Walk:
        above, target = walk.folder, entry.target
        above_target = target is not None and not target.whole
        device = None if above_target else found.st_dev
        if target is not None and above_target:
            entries = _below(target)
        elif self._is_elsewhere(walk, entry, found):
            entries = iter(())  # a mount point is kept, for what is mounted there to have a place
        else:
            entries = self._list(entry.path)
        node = self._node(entry, found)
        below = self._known.load(known.subtree if known is not None and known.type is NodeType.DIR else None)
        as_known = known is not None and below.tree is not None and replace(node, subtree=below.tree) == known
        if not above_target:
            self._counters.add(dirs=1)
        self._trees.expect(above)
        known_at = above.known.position if as_known else None
        return _Walk(Folder(above, node, below, known_at=known_at, above_target=above_target), entries, device)

    def _is_elsewhere(self, walk: _Walk, entry: _Entry, found: os.stat_result) -> bool:
        """Whether it is on another file system than the folder it is in, and only that one is wanted."""
        if not self._selector.one_file_system or walk.device is None or walk.device == found.st_dev:
            return False
        return entry.path not in self._given

    def _list(self, path: bytes) -> Iterator[_Entry]:
        """What is in a folder, in the order of restic's trees. Raises OSError, before the first entry is asked for."""
        names = self._selector.kept_of(path, sorted(os.listdir(path)))
        above = path if path.endswith(b"/") else path + b"/"
        return (_Entry(name, above + name) for name in names)


def reason(error: OSError) -> str:
    """An error of the system in a few words, without the path."""
    return (error.strerror or str(error)).lower()


def _below(target: Target) -> Iterator[_Entry]:
    return (_Entry(name, below.path, below) for name, below in sorted(target.below.items()))
