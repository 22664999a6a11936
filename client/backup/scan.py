"""The walk over what is to be backed up, beside the tree of the parent snapshot.

Kept true: what the parent snapshot has, and type, size, inode and both times say is unchanged, is not opened; whatever
cannot be read is named with its reason and left out, and the walk goes on.
"""

import os
import stat
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace

from client.backup.known import KnownTrees
from client.backup.request import Counters, FolderIdentity
from client.backup.targets import Target
from client.backup.trees import Folder, TreeWriter
from client.platforms.nodes import is_same, is_unchanged, read_node
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


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    path: bytes
    target: Target | None = None  # set above and at the paths that were given


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
        excluded: Container[FolderIdentity] = frozenset(),
    ) -> None:
        self._trees = trees
        self._known = known
        self._counters = counters
        self._read = read
        self._ensure_running = ensure_running
        self._excluded = excluded

    def scan(self, root: Target, known_tree: BlobId | None) -> None:
        """Walk everything below `root`; the folder tree is finished when all files handed out are."""
        folder = Folder(None, None, self._known.load(known_tree), above_target=not root.whole)
        entries = _list(root.path) if root.whole else _below(root)
        stack: list[tuple[Folder, Iterator[_Entry]]] = [(folder, entries)]
        while stack:
            self._ensure_running()
            folder, remaining = stack[-1]
            for entry in remaining:
                opened = self._visit(folder, entry)
                if opened is not None:
                    stack.append(opened)
                    break
            else:
                stack.pop()
                self._trees.finish(folder)

    def _visit(self, folder: Folder, entry: _Entry) -> tuple[Folder, Iterator[_Entry]] | None:
        """Deal with one entry; for a folder, answer what to walk next."""
        target = entry.target
        above_target = target is not None and not target.whole
        try:
            # On the way to a given path links are followed, as the system did when it found the path.
            found = os.stat(entry.path) if above_target else os.lstat(entry.path)
            known = folder.known.find(entry.name)
            if stat.S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) in self._excluded:
                    return None
                return self._open_folder(folder, entry, found, known)
            if stat.S_ISREG(found.st_mode):
                self._file(folder, entry, found, known)
            elif stat.S_ISSOCK(found.st_mode):
                pass  # nothing in it can be kept or brought back: left out, as restic does
            elif known is not None and is_unchanged(known, found) and is_same(known, found):
                self._trees.reuse(folder, folder.known.position)
            else:
                self._trees.add(folder, read_node(entry.name, entry.path, found))
        except OSError as error:
            self._counters.warn(entry.path, reason(error))
        return None

    def _file(self, folder: Folder, entry: _Entry, found: os.stat_result, known: Node | None) -> None:
        if known is not None and known.type is not NodeType.FILE:
            known = None
        if known is not None and is_unchanged(known, found) and self._known.has_content(known):
            if is_same(known, found):
                self._trees.reuse(folder, folder.known.position)
            else:
                fresh = read_node(entry.name, entry.path, found)
                self._trees.add(folder, replace(fresh, content=known.content, size=known.size))
            size = found.st_size
            self._counters.add(files_unmodified=1, total_files=1, total_bytes=size, done_bytes=size)
            return
        self._counters.add(total_files=1, total_bytes=found.st_size)
        self._trees.expect(folder)
        self._read(FileFound(folder, entry.name, entry.path, found, known))

    def _open_folder(
        self, above: Folder, entry: _Entry, found: os.stat_result, known: Node | None
    ) -> tuple[Folder, Iterator[_Entry]] | None:
        target = entry.target
        above_target = target is not None and not target.whole
        entries = _below(target) if target is not None and above_target else _list(entry.path)
        node = read_node(entry.name, entry.path, found)
        below = self._known.load(known.subtree if known is not None and known.type is NodeType.DIR else None)
        as_known = known is not None and below.tree is not None and replace(node, subtree=below.tree) == known
        if not above_target:
            self._counters.add(dirs=1)
        self._trees.expect(above)
        known_at = above.known.position if as_known else None
        return Folder(above, node, below, known_at=known_at, above_target=above_target), entries


def reason(error: OSError) -> str:
    """An error of the system in a few words, without the path."""
    return (error.strerror or str(error)).lower()


def _list(path: bytes) -> Iterator[_Entry]:
    """What is in a folder, in the order of restic's trees. Raises OSError, before the first entry is asked for."""
    names = sorted(os.listdir(path))
    return (_Entry(name, os.path.join(path, name)) for name in names)


def _below(target: Target) -> Iterator[_Entry]:
    return (_Entry(name, below.path, below) for name, below in sorted(target.below.items()))
