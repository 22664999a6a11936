"""What is in the target already, and what becomes of it.

Kept true: what is there is read and never written under its own name. A file whose content is right already gets its
metadata; any other is built anew beside it, from what is right of it and what the vault has, and takes its place when
it is whole. So whatever ends a restore, each name has the old content or the new one (docs/decisions/
replacing-files.md). What is taken over is hashed and then copied from the same buffer: it cannot change in between.
A dry run touches nothing.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256

from client.errors import reason_of
from client.platforms.linux import Identity, clone_file, create_file, identity_of, open_to_mend, open_within
from client.restore.request import Counters, Overwrite, Step
from client.restore.sparse import write_sparsely
from client.restore.target import Target, TargetFolder, is_partial
from client.restore.write import FileWriter, Piece, PlannedFile
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node

_CHANGED = "not restored: it was changed after the restore that is gone on with, and is left as it is"


class Verdict(Enum):
    """What becomes of a path of the snapshot."""

    NEW = auto()  # nothing has its name
    LEAVE = auto()
    REPLACE = auto()
    SAME = auto()  # a file that is taken to be as the snapshot has it
    CHANGED = auto()  # since the restore that is gone on with: left, unless its content is the same after all


@dataclass(frozen=True, slots=True)
class Found:
    """What has the name of a path of the snapshot; `stat` is None for nothing."""

    verdict: Verdict
    stat: os.stat_result | None = None


_NOTHING = Found(Verdict.NEW)


class Judge:
    """Looks at the target for one walk. For one thread."""

    def __init__(
        self,
        target: Target,
        writer: FileWriter,
        counters: Counters,
        overwrite: Overwrite,
        *,
        protected: frozenset[Identity] = frozenset(),
        dry_run: bool,
    ) -> None:
        self._target = target
        self._writer = writer
        self._counters = counters
        self._overwrite = overwrite
        self._protected = protected
        self._dry_run = dry_run

    def names(self, folder: TargetFolder, nodes: Sequence[Node]) -> frozenset[bytes]:
        """What is in a folder, if that is there. Partial files that no node of it goes on with are removed."""
        if self._target.is_fresh or not folder.made:
            return frozenset()
        try:
            with self._target.opened(folder) as opened:
                names = frozenset(map(os.fsencode, os.listdir(opened)))
                partials = set(filter(is_partial, names)) - folder.taken
                if partials and not self._dry_run:
                    for partial in partials - {folder.partial_name(node.name) for node in nodes}:
                        with contextlib.suppress(OSError):  # a folder is none of ours
                            os.unlink(partial, dir_fd=opened)
        except OSError:
            return frozenset()  # what is restored into it finds out, and says so
        return names

    def look(self, folder: TargetFolder, node: Node, path: bytes, names: frozenset[bytes]) -> Found | None:
        """What becomes of a node of a folder in which there are `names`; None if that cannot be seen, and was told."""
        if node.name not in names:
            return _NOTHING
        try:
            with self._target.opened(folder) as opened:
                found = os.stat(node.name, dir_fd=opened, follow_symlinks=False)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            self._counters.warn(path, f"not restored: {reason_of(error)}")
            return None
        verdict = self._verdict(node, found)
        if verdict is Verdict.LEAVE and node.type is not NodeType.DIR:
            self._leave(path)
        return Found(verdict, found)

    def _verdict(self, node: Node, found: os.stat_result) -> Verdict:
        if self._overwrite is Overwrite.NEVER:
            return Verdict.LEAVE
        if self._overwrite is Overwrite.IF_NEWER and found.st_mtime_ns >= node.mtime_ns:
            return Verdict.LEAVE
        if self._overwrite is not Overwrite.IF_CHANGED or not stat.S_ISREG(found.st_mode):
            return Verdict.REPLACE
        is_shared = found.st_nlink > 1 and node.links <= 1  # its other names are to stay as they are
        is_alike = node.type is NodeType.FILE and (found.st_size, found.st_mtime_ns) == (node.size, node.mtime_ns)
        if is_alike and not (is_shared and metadata_differs(node, found)):
            return Verdict.SAME if self._target.keeps_data else Verdict.REPLACE
        return Verdict.CHANGED if self._target.is_resumed else Verdict.REPLACE

    def may_enter(self, folder: TargetFolder, found: Found, *, wanted: bool) -> bool:
        """Whether what is in a folder can be restored; what is no folder gives way to one that is `wanted` itself."""
        if found.stat is not None and identity_of(found.stat) in self._protected:
            # A vault, or the home with the keys that are in use: older ones must not take their place.
            self._leave(folder.path)
            return False
        if found.stat is not None and stat.S_ISDIR(found.stat.st_mode):
            folder.made = folder.found = True
        elif found.verdict is Verdict.LEAVE:
            self._leave(folder.path)
            return False
        elif found.stat is not None and not self._give_way(folder, found, wanted=wanted):
            return False
        if self._dry_run and wanted:
            if not folder.made:
                self._counters.would(Step.CREATE if found.stat is None else Step.REPLACE, folder.path)
            self._counters.add(dirs=1)
        return True

    def _give_way(self, folder: TargetFolder, found: Found, *, wanted: bool) -> bool:
        if not wanted or found.verdict is Verdict.CHANGED:
            self._counters.warn(folder.path, "nothing in it was restored: what has its name in the target is no folder")
            return False
        if self._dry_run or folder.above is None:
            return True
        try:
            with self._target.opened(folder.above) as above:
                os.unlink(folder.name, dir_fd=above)
        except OSError as error:
            self._counters.warn(folder.path, f"not restored: {reason_of(error)}")
            return False
        return True

    def may_make(self, folder: TargetFolder, node: Node, path: bytes, found: Found) -> bool:
        """Whether a symlink, FIFO or device is to be made; one that is right already is counted."""
        if found.stat is not None and self._is_right_special(folder, node, found.stat):
            self._counters.add(others=1)
            return False
        return self._may_replace(path, found)

    def may_link(self, path: bytes, found: Found, first: PlannedFile) -> bool:
        """Whether another name of a file is to be made; one that is in place already is counted."""
        if found.stat is not None and first.done and self._is_name_of(first, found.stat):
            self._counters.add(others=1)
            return False
        return self._may_replace(path, found)

    def _may_replace(self, path: bytes, found: Found) -> bool:
        if found.verdict is Verdict.CHANGED:
            self._counters.warn(path, _CHANGED)
            return False
        if self._dry_run:
            self._counters.would(Step.CREATE if found.stat is None else Step.REPLACE, path)
            self._counters.add(others=1)
        return not self._dry_run

    def _is_right_special(self, folder: TargetFolder, node: Node, there: os.stat_result) -> bool:
        """Whether what is there is the symlink, FIFO or device of the node, with all its metadata."""
        if stat.S_IFMT(there.st_mode) != stat.S_IFMT(node.unix_mode) or metadata_differs(node, there):
            return False
        if node.type is not NodeType.SYMLINK:
            return node.type is NodeType.FIFO or there.st_rdev == node.device
        try:
            with self._target.opened(folder) as opened:
                return os.readlink(node.name, dir_fd=opened) == node.linktarget
        except OSError:
            return False

    def _is_name_of(self, first: PlannedFile, there: os.stat_result) -> bool:
        try:
            with self._target.opened(first.folder) as opened:
                return os.path.samestat(os.stat(first.node.name, dir_fd=opened, follow_symlinks=False), there)
        except OSError:
            return False

    def right_pieces(
        self, file: PlannedFile, pieces: Sequence[Piece], found: Found, names: frozenset[bytes]
    ) -> frozenset[int] | None:
        """The numbers of a file's pieces that need not be fetched; None if nothing of it is to be written.

        What of them is not under the file's own name is in its partial file by then. Raises TargetFull, UsageError.
        """
        if found.verdict is Verdict.SAME or self._is_right(file, pieces, found):
            self._keep(file, found)
            return None
        if found.verdict is Verdict.CHANGED:
            self._counters.warn(file.path, _CHANGED)
            return None
        if self._dry_run:
            self._counters.would(Step.CREATE if found.stat is None else Step.REPLACE, file.path)
            self._counters.add(files=1, done_bytes=file.size)
            return None
        if file.pieces <= 1 or self._target.is_fresh:
            return frozenset()
        try:
            return self._take_over(file, pieces, found, names)
        except OSError as error:
            self._writer.fail(file, error)
            return None

    def _is_right(self, file: PlannedFile, pieces: Sequence[Piece], found: Found) -> bool:
        """Whether the file of that name has all the content, and can be given its metadata."""
        there = found.stat
        if there is None or not stat.S_ISREG(there.st_mode) or there.st_size != file.size:
            return False
        if there.st_nlink > 1 and file.node.links <= 1 and metadata_differs(file.node, there):
            return False  # its other names are to stay as they are
        try:
            with self._target.opened(file.folder) as folder:
                opened = open_within(file.node.name, folder)
            with _closing(opened):
                return sum(1 for _ in _right(opened, pieces, whole=True)) == len(pieces)
        except OSError:
            return False  # it cannot be read: it can be replaced

    def _keep(self, file: PlannedFile, found: Found) -> None:
        differs = found.stat is None or metadata_differs(file.node, found.stat)
        file.waiting = 0
        file.done = True
        if differs and self._dry_run:
            self._counters.would(Step.UPDATE, file.path)
        elif differs:
            self._writer.set_metadata(file)
        self._counters.add(files=1, same=1, done_bytes=file.size)

    def _leave(self, path: bytes) -> None:
        if self._dry_run:
            self._counters.would(Step.LEAVE, path)
        self._counters.add(left=1)

    def _take_over(
        self, file: PlannedFile, pieces: Sequence[Piece], found: Found, names: frozenset[bytes]
    ) -> frozenset[int]:
        """Begin a file with what there is of it: a partial file of an earlier restore, or the file it will replace."""
        partial = file.folder.partial_name(file.node.name)
        with self._target.opened(file.folder) as folder:
            mended = _open_partial(partial, folder) if partial in names else None
            if mended is not None:
                with _closing(mended):
                    self._writer.adopt(file, partial, holds_old=True)
                    os.truncate(mended, file.size)
                    return frozenset(number for number, _ in _right(mended, pieces))
            if found.stat is None or not stat.S_ISREG(found.stat.st_mode):
                return frozenset()
            try:
                opened = open_within(file.node.name, folder)
            except PermissionError:
                return frozenset()
            with _closing(opened):
                return self._build(file, partial, pieces, opened, folder)

    def _build(
        self, file: PlannedFile, partial: bytes, pieces: Sequence[Piece], opened: int, folder: int
    ) -> frozenset[int]:
        made = create_file(partial, folder)
        with _closing(made):
            self._writer.adopt(file, partial, holds_old=False)
            if clone_file(opened, made):  # the file system shares the blocks: only what differs is written
                file.holds_old = True
                os.truncate(made, file.size)
                return frozenset(number for number, _ in _right(made, pieces))
            os.truncate(made, file.size)
            copied = set()
            for number, content in _right(opened, pieces):
                write_sparsely(made, content, pieces[number].offset)
                copied.add(number)
            return frozenset(copied)


def metadata_differs(node: Node, found: os.stat_result) -> bool:
    """Whether a file has not all that its node says; attributes are not looked into."""
    return bool(node.extended_attributes) or (
        (go_mode(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)
        != (node.mode, node.uid, node.gid, node.mtime_ns)
    )


def _right(opened: int, pieces: Iterable[Piece], *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and content of the pieces that an open file holds at their offsets; with `whole` up to the first other."""
    for number, (location, offset) in enumerate(pieces):
        length = location.entry.length_plain
        content = os.pread(opened, length, offset)
        if len(content) == length and sha256(content).digest() == location.entry.id:
            yield number, content
        elif whole:
            return


def _open_partial(partial: bytes, folder: int) -> int | None:
    """A partial file of an earlier restore, to be mended; what else has its name is removed."""
    try:
        opened = open_to_mend(partial, folder)
    except FileNotFoundError:
        return None
    except OSError:
        os.unlink(partial, dir_fd=folder)  # a link, or a file that may not be written
        return None
    found = os.fstat(opened)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return opened
    os.close(opened)
    os.unlink(partial, dir_fd=folder)
    return None


@contextlib.contextmanager
def _closing(opened: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(opened)
