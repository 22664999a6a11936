"""Files on their way into the target.

Kept true: a file gets its own name when all its pieces are written and its metadata is set, and only then does what
had that name before give way; one that the vault has lost a piece of never does, and is named instead.
"""

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from client.errors import reason_of
from client.platforms.linux import open_for_writing, open_within, write_all
from client.platforms.nodes import replace_metadata, write_metadata
from client.restore.request import Counters
from client.restore.sparse import write_sparsely
from client.restore.target import Target, TargetFolder
from client.restore.way import give_name
from client.restore.whole import create_partial, write_whole
from client.vault.index import Location
from client.vault.nodes import Node


class Piece(NamedTuple):
    """A blob of a file, and where in the file it goes."""

    location: Location
    offset: int


@dataclass(slots=True, eq=False)
class PlannedFile:
    """A regular file that is to be restored, of `size` bytes in `pieces` blobs."""

    folder: TargetFolder
    node: Node
    path: bytes  # in the snapshot
    size: int
    pieces: int
    waiting: int  # pieces that are not written yet
    partial: bytes = b""  # its name until it is whole, once it is begun
    holds_old: bool = False  # its partial file was not made of zeros
    failed: bool = False  # it will not be there
    lost: bool = False  # because the vault has lost something of it
    done: bool = False


class FileWriter:
    """Writes pieces of files in whatever order they come. Safe for several threads."""

    def __init__(self, target: Target, counters: Counters) -> None:
        self._target = target
        self._counters = counters
        self._lock = threading.Lock()
        self._begun: set[PlannedFile] = set()

    def begin(self, file: PlannedFile) -> None:
        """Make room for a file of several pieces, or for an empty one, unless that is done. Called once, first."""
        try:
            if not file.partial:
                with self._target.opened(file.folder) as folder:
                    opened = self._create(file, folder)
                    try:
                        os.truncate(opened, file.size)
                    finally:
                        os.close(opened)
        except OSError as error:
            self._cannot(file, error)
        if not file.waiting:
            self._finish(file)

    def adopt(self, file: PlannedFile, partial: bytes, *, holds_old: bool) -> None:
        """Take a partial file that is there for a file's own. `holds_old`: not all that was not written is zeros."""
        with self._lock:
            file.partial = partial
            file.holds_old = holds_old
            self._begun.add(file)

    def write(self, file: PlannedFile, offset: int, content: bytes) -> None:
        """Write one piece, and finish the file with its last. Raises TargetFull, UsageError."""
        try:
            if not file.failed:
                if file.pieces == 1 and not file.partial:
                    self._write_whole(file, content)
                else:
                    self._write_piece(file, offset, content)
        except OSError as error:
            self._cannot(file, error)
        self._piece_done(file, len(content))

    def note_written(self, files: Sequence[PlannedFile]) -> None:
        """Files of one piece are whole, by the work of another process."""
        for file in files:
            file.waiting = 0
            file.done = True
        self._counters.add(files=len(files), done_bytes=sum(file.size for file in files))

    def complain(self, file: PlannedFile, complaints: Sequence[str]) -> None:
        """Name what of a file's metadata could not be set."""
        for complaint in complaints:
            self._counters.warn(file.path, complaint)

    def lose(self, file: PlannedFile, why: str) -> None:
        """A piece cannot be had: the file will not be there."""
        with self._lock:
            known, file.failed, file.lost = file.failed, True, True
        if not known:
            self._counters.lose(file.path, why)
        self._piece_done(file, 0)

    def fail(self, file: PlannedFile, error: OSError) -> None:
        """The file cannot be begun. Raises TargetFull, UsageError if nothing can."""
        self._cannot(file, error)
        self._remove_partial(file)

    def abandon(self, *, keep: bool) -> None:
        """The restore has failed: remove every file that is not whole, or `keep` them to be gone on with."""
        with self._lock:
            begun = list(self._begun)
        for file in begun:
            if not keep or file.failed:
                self._remove_partial(file)

    def set_metadata(self, file: PlannedFile) -> None:
        """Give a file whose content is there already what its node says. Raises TargetFull, UsageError."""
        try:
            with self._target.opened(file.folder) as folder:
                opened = open_within(file.node.name, folder)
                try:
                    self.complain(file, replace_metadata(file.node, opened))
                finally:
                    os.close(opened)
        except OSError as error:
            self._target.fail_if_unusable(error)
            self._counters.warn(file.path, f"its metadata could not be set: {reason_of(error)}")

    def take_back(self, file: PlannedFile, why: str) -> None:
        """A file does not read back as it was written: it loses its name, and is named among what is lost."""
        partial = file.folder.partial_name(file.node.name)
        with self._target.opened(file.folder) as folder:
            os.rename(file.node.name, partial, src_dir_fd=folder, dst_dir_fd=folder)
        file.done = False
        self._counters.lose(file.path, why)

    def _write_whole(self, file: PlannedFile, content: bytes) -> None:
        partial = file.folder.partial_name(file.node.name)
        with self._target.opened(file.folder) as folder:
            complaints = write_whole(file.node, partial, content, folder, file.folder.new_files)
        file.done = True
        self.complain(file, complaints)

    def _write_piece(self, file: PlannedFile, offset: int, content: bytes) -> None:
        with self._target.opened(file.folder) as folder:
            opened = open_for_writing(file.partial, folder)
            try:
                if file.holds_old:
                    write_all(opened, content, offset)
                else:
                    write_sparsely(opened, content, offset)
            finally:
                os.close(opened)

    def _piece_done(self, file: PlannedFile, size: int) -> None:
        with self._lock:
            file.waiting -= 1
            more = file.waiting > 0
        if more:
            self._counters.add(done_bytes=size)
        else:
            self._finish(file, size)

    def _finish(self, file: PlannedFile, size: int = 0) -> None:
        if file.failed:
            self._counters.add(done_bytes=size)
            self._remove_partial(file)
            return
        if not file.done:
            try:
                with self._target.opened(file.folder) as folder:
                    opened = open_for_writing(file.partial, folder)
                    try:
                        self.complain(file, write_metadata(file.node, opened))
                    finally:
                        os.close(opened)
                    self._name(file, folder)
            except OSError as error:
                self._cannot(file, error)
                self._remove_partial(file)
                return
        self._counters.add(files=1, done_bytes=size)

    def _create(self, file: PlannedFile, folder: int) -> int:
        partial = file.folder.partial_name(file.node.name)
        opened = create_partial(partial, folder)
        self.adopt(file, partial, holds_old=False)
        return opened

    def _name(self, file: PlannedFile, folder: int) -> None:
        give_name(file.partial, file.node.name, folder)
        with self._lock:
            file.done = True
            self._begun.discard(file)

    def _remove_partial(self, file: PlannedFile) -> None:
        with self._lock:
            if file not in self._begun:
                return
            self._begun.discard(file)
        with contextlib.suppress(OSError), self._target.opened(file.folder) as folder:
            os.unlink(file.partial, dir_fd=folder)

    def _cannot(self, file: PlannedFile, error: OSError) -> None:
        """This machine cannot hold the file, or nothing more at all."""
        self._target.fail_if_unusable(error)
        with self._lock:
            known, file.failed = file.failed, True
        if not known:
            self._counters.warn(file.path, f"not restored: {reason_of(error)}")
