"""Files on their way into the target.

Kept true: a file gets its own name when all its pieces are written and its metadata is set; one that the vault has
lost a piece of never does, and is named instead.
"""

import contextlib
import os
import threading
from dataclasses import dataclass

from client.platforms.linux import create_file, open_for_writing
from client.platforms.nodes import write_metadata
from client.restore.request import Counters
from client.restore.sparse import write_sparsely
from client.restore.target import Target, TargetFolder
from client.vault.nodes import Node


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
        """Make room for a file of several pieces, or for an empty one. Called once, before its first piece."""
        try:
            with self._target.opened(file.folder) as folder:
                opened = self._create(file, folder)
                try:
                    os.truncate(opened, file.size)
                finally:
                    os.close(opened)
        except OSError as error:
            self._cannot(file, error)
        if not file.pieces:
            self._finish(file)

    def write(self, file: PlannedFile, offset: int, content: bytes) -> None:
        """Write one piece, and finish the file with its last. Raises TargetFull, UsageError."""
        try:
            if not file.failed:
                if file.pieces == 1:
                    self._write_whole(file, content)
                else:
                    self._write_piece(file, offset, content)
        except OSError as error:
            self._cannot(file, error)
        self._piece_done(file, len(content))

    def lose(self, file: PlannedFile, why: str) -> None:
        """A piece cannot be had: the file will not be there."""
        with self._lock:
            known, file.failed, file.lost = file.failed, True, True
        if not known:
            self._counters.lose(file.path, why)
        self._piece_done(file, 0)

    def abandon(self) -> None:
        """Remove every file that is not whole: the restore has failed."""
        with self._lock:
            begun = list(self._begun)
        for file in begun:
            self._remove_partial(file)

    def _write_whole(self, file: PlannedFile, content: bytes) -> None:
        with self._target.opened(file.folder) as folder:
            opened = self._create(file, folder)
            try:
                if write_sparsely(opened, content, 0) < len(content):
                    os.truncate(opened, len(content))
                self._complain(file, write_metadata(file.node, opened))
            finally:
                os.close(opened)
            self._name(file, folder)

    def _write_piece(self, file: PlannedFile, offset: int, content: bytes) -> None:
        with self._target.opened(file.folder) as folder:
            opened = open_for_writing(file.partial, folder)
            try:
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
                        self._complain(file, write_metadata(file.node, opened))
                    finally:
                        os.close(opened)
                    self._name(file, folder)
            except OSError as error:
                self._cannot(file, error)
                self._remove_partial(file)
                return
        self._counters.add(files=1, done_bytes=size)

    def _create(self, file: PlannedFile, folder: int) -> int:
        partial = self._target.partial_name()
        opened = create_file(partial, folder)
        with self._lock:
            file.partial = partial
            self._begun.add(file)
        return opened

    def _name(self, file: PlannedFile, folder: int) -> None:
        os.rename(file.partial, file.node.name, src_dir_fd=folder, dst_dir_fd=folder)
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

    def _complain(self, file: PlannedFile, complaints: list[str]) -> None:
        for complaint in complaints:
            self._counters.warn(file.path, complaint)

    def _cannot(self, file: PlannedFile, error: OSError) -> None:
        """This machine cannot hold the file, or nothing more at all."""
        self._target.fail_if_unusable(error)
        with self._lock:
            known, file.failed = file.failed, True
        if not known:
            self._counters.warn(file.path, f"not restored: {(error.strerror or str(error)).lower()}")
