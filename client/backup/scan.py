"""The walk over what is to be backed up, beside the tree of the parent snapshot.

Kept true: what the parent snapshot has, and type, size, inode and both times say is unchanged, is not opened; whatever
cannot be read is named with its reason and left out, and the walk goes on. A folder whose listing is the one that led
to the parent's tree is taken over whole, and only the folders in it are walked: it comes out as if each of its entries
had been compared with the parent's.
"""

import os
import stat
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from client.backup.attributes import storable
from client.backup.known import KnownFolder, KnownTrees
from client.backup.listing import AT_ONCE, Lister, Listing, state
from client.backup.memo import Memo
from client.backup.request import Counters
from client.backup.selection import Selector
from client.backup.targets import Target, target_tree
from client.backup.trees import Folder, TreeWriter
from client.errors import reason_of
from client.platforms.linux import Identity, identity_of
from client.platforms.nodes import encoded_head, is_same, is_unchanged, read_node
from client.vault.blobs import BlobId
from client.vault.modes import NodeType
from client.vault.nodes import Node

_HELD = 1024  # entries of a folder that are held, at some 700 bytes each; those of a larger one are looked at again


@dataclass(frozen=True, slots=True)
class FileFound:
    """A regular file that has to be read. `known` is the parent snapshot's node of that name, if it was a file.

    One that `is_unchanged` since then is read because a vault lacks some of it.
    """

    folder: Folder
    name: bytes
    path: bytes
    stat: os.stat_result
    known: Node | None
    is_unchanged: bool = False


@dataclass(slots=True)
class _Entry:
    name: bytes
    path: bytes
    target: Target | None = None  # set above and at the paths that were given
    found: os.stat_result | None = None  # of what is no folder, where the listing was held
    state: int | None = None  # in the listing, of what is looked at again
    tree: BlobId | None = None  # that the parent has of a folder, if the one around it is taken over whole


@dataclass(frozen=True, slots=True)
class _Look:
    """What is wanted of a folder. The listing is None if something in it could not be looked at, or is not wanted."""

    entries: Iterator[_Entry]
    lister: Lister = field(default_factory=Lister)
    listing: Listing | None = None


@dataclass(frozen=True, slots=True)
class _Walk:
    """A folder that is being walked; `device` is the file system that what is in it must be on, if that matters."""

    folder: Folder
    entries: Iterator[_Entry]
    device: int | None = None


@dataclass(frozen=True, slots=True)
class _Recalled:
    """The parent's tree of a folder that is the same, and the trees of the folders in it."""

    known: KnownFolder
    subtrees: Sequence[BlobId]


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
        memo: Memo,
        selector: Selector,
        excluded: Container[Identity] = frozenset(),
    ) -> None:
        self._trees = trees
        self._known = known
        self._memo = memo
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
        if not root.whole:
            return _Walk(Folder(None, None, self._known.load(known_tree), above_target=True), _below(root))
        device = os.lstat(root.path).st_dev
        look = self._look(root.path, device)
        recalled = self._recall(known_tree, look)
        known = recalled.known if recalled else self._known.load(known_tree)
        return self._walk(Folder(None, None, known, listing=look.listing), root.path, device, look, recalled)

    def _visit(self, walk: _Walk, entry: _Entry) -> _Walk | None:
        """Deal with one entry; for a folder, answer what to walk next."""
        try:
            opened = self._open(walk, entry)
        except OSError as error:
            self._counters.warn(entry.path, reason_of(error))
            opened = None
        if opened is None and entry.tree is not None:
            self._trees.drop(walk.folder, entry.name)  # no folder any more since it was listed, or unreadable
        return opened

    def _open(self, walk: _Walk, entry: _Entry) -> _Walk | None:
        above_target = entry.target is not None and not entry.target.whole
        found = entry.found
        if found is None:
            if not above_target and self._selector.leaves_out_path(entry.path):
                return None
            # On the way to a given path links are followed, as the system did when it found the path.
            found = os.stat(entry.path) if above_target else os.lstat(entry.path)
            if not self._is_wanted(entry.path, found, walk.device, above_target=above_target):
                return None
            if entry.state is not None and entry.state != state(entry.name, found):
                walk.folder.listing = None
        if stat.S_ISDIR(found.st_mode):
            return self._open_folder(walk, entry, found)
        if stat.S_ISREG(found.st_mode):
            self._file(walk.folder, entry, found)
        else:
            self._special(walk.folder, entry, found)
        return None

    def _node(self, entry: _Entry, found: os.stat_result) -> Node:
        return storable(read_node(entry.name, entry.path, found), partial(self._counters.warn, entry.path))

    def _is_wanted(self, path: bytes, found: os.stat_result, device: int | None, *, above_target: bool = False) -> bool:
        """Whether what is at a path, in a folder on that device, is wanted for what it is."""
        if not above_target and self._selector.leaves_out(path, found):
            return False
        if stat.S_ISDIR(found.st_mode):
            return identity_of(found) not in self._excluded
        if stat.S_ISSOCK(found.st_mode):  # nothing in one can be kept or brought back: restic has none either
            return False
        return not self._is_elsewhere(path, found, device)

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
        as_known = known is not None and is_unchanged(known, found)
        if known is not None and as_known and self._known.has_content(known.content or ()):
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
        self._read(FileFound(folder, entry.name, entry.path, found, known, as_known))

    def _open_folder(self, walk: _Walk, entry: _Entry, found: os.stat_result) -> _Walk:
        above, target = walk.folder, entry.target
        above_target = target is not None and not target.whole
        device = None if above_target else found.st_dev
        if target is not None and above_target:
            look = _Look(_below(target))
        elif self._is_elsewhere(entry.path, found, walk.device):
            # a mount point is kept, for what is mounted there to have a place
            lister = Lister()
            look = _Look(iter(()), lister, lister.finish())
        else:
            look = self._look(entry.path, found.st_dev)
        recalled = self._recall(entry.tree, look)
        if recalled is not None:
            folder = Folder(above, None, recalled.known, name=entry.name, listing=look.listing)
        else:
            known = above.known.find(entry.name)
            subtree = known.subtree if known is not None and known.type is NodeType.DIR else None
            node = self._node(entry, found)
            recalled = self._recall(subtree, look) if entry.tree is None else None
            below = recalled.known if recalled else self._known.load(subtree)
            as_known = known is not None and below.tree is not None and replace(node, subtree=below.tree) == known
            known_at = above.known.position if as_known else None
            folder = Folder(above, node, below, known_at=known_at, above_target=above_target, listing=look.listing)
        if not above_target:
            self._counters.add(dirs=1)
        self._trees.expect(above)
        return self._walk(folder, entry.path, device, look, recalled)

    def _walk(self, folder: Folder, path: bytes, device: int | None, look: _Look, recalled: _Recalled | None) -> _Walk:
        """What is to be walked of a folder: of one that is the same, only the folders in it."""
        if recalled is None or look.listing is None:
            return _Walk(folder, look.entries, device)
        files, size = look.listing.files, look.listing.size
        self._trees.keep(folder, look.listing.entries - look.listing.folders)
        self._counters.add(files_unmodified=files, total_files=files, total_bytes=size, done_bytes=size)
        folders = _folders(_above(path), look.lister, recalled.subtrees)
        return _Walk(folder, folders, device)

    def _recall(self, tree: BlobId | None, look: _Look) -> _Recalled | None:
        """What is known of a folder whose tree would come out the same, if its folders' trees do."""
        memory = self._memo.find(tree) if tree is not None and look.listing is not None else None
        if tree is None or memory is None or look.listing is None or memory.digest != look.listing.digest:
            return None
        if len(memory.subtrees) != look.listing.folders:
            return None
        if not (self._known.has_tree(tree) and self._known.has_content(memory.content)):
            return None
        # Where no folder is in it, nothing can come out differently: its tree is not read.
        known = self._known.load(tree) if look.listing.folders else KnownFolder(tree)
        return _Recalled(known, memory.subtrees) if known.tree is not None else None

    def _is_elsewhere(self, path: bytes, found: os.stat_result, device: int | None) -> bool:
        """Whether it is on another file system than the folder it is in, and only that one is wanted."""
        if not self._selector.one_file_system or device is None or device == found.st_dev:
            return False
        return path not in self._given

    def _look(self, path: bytes, device: int) -> _Look:
        """What is in a folder, in the order of restic's trees. Raises OSError if it cannot be listed."""
        names = self._selector.kept_of(path, sorted(os.listdir(path)))
        above = _above(path)
        lister = Lister()
        held: list[os.stat_result] = []
        try:
            for start in range(0, len(names), AT_ONCE):
                wanted, found = self._wanted(above, names[start : start + AT_ONCE], device)
                lister.add(wanted, found)
                if len(names) <= _HELD:
                    held += found
        except OSError:
            # It is looked at again, and named then.
            return _Look(_Entry(name, above + name) for name in names)
        return _Look(_listed(above, lister, held if len(names) <= _HELD else None), lister, lister.finish())

    def _wanted(
        self, above: bytes, names: list[bytes], device: int
    ) -> tuple[Sequence[bytes], Sequence[os.stat_result]]:
        """Those of a folder's names that are wanted, and what lstat says of each. Raises OSError."""
        if self._selector.wants_all_files:  # asked once, for there are many
            found = [os.lstat(above + name) for name in names]
            if all(map(stat.S_ISREG, {each.st_mode for each in found})):
                return names, found
            looked_at: Iterable[tuple[bytes, os.stat_result]] = zip(names, found, strict=True)
        else:
            kept = [name for name in names if not self._selector.leaves_out_path(above + name)]
            looked_at = ((name, os.lstat(above + name)) for name in kept)
        wanted = [(name, found) for name, found in looked_at if self._is_wanted(above + name, found, device)]
        return [name for name, _ in wanted], [found for _, found in wanted]


def _listed(above: bytes, lister: Lister, held: Sequence[os.stat_result] | None) -> Iterator[_Entry]:
    """The entries of a listing; `held` is what lstat said of each, if that was not too much to hold."""
    if held is None:
        for name, seen in zip(lister.names, lister.states, strict=True):
            yield _Entry(name, above + name, state=seen)
        return
    # Folders are looked at again when the walk comes to them, which may be much later.
    for name, found, seen in zip(lister.names, held, lister.states, strict=True):
        if stat.S_ISDIR(found.st_mode):
            yield _Entry(name, above + name, state=seen)
        else:
            yield _Entry(name, above + name, found=found)


def _folders(above: bytes, lister: Lister, trees: Sequence[BlobId]) -> Iterator[_Entry]:
    """The folders of a listing, with the tree that the parent has of each."""
    for at, tree in zip(lister.folders, trees, strict=True):
        name = lister.names[at]
        yield _Entry(name, above + name, state=lister.states[at], tree=tree)


def _above(path: bytes) -> bytes:
    return path if path.endswith(b"/") else path + b"/"


def _below(root: Target) -> Iterator[_Entry]:
    return (_Entry(name, below.path, below) for name, below in sorted(root.below.items()))
