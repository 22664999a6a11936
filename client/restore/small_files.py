"""Opening blobs and writing the small files that are made of them, in a process beside the restore.

Kept true: it tells of a file that it is done only when it is; all else it leaves to the process that asked, which does
that file itself and finds out what is wrong.
"""

import contextlib
import gc
import os
from collections.abc import Sequence
from typing import NamedTuple

from client.errors import OortError
from client.platforms.linux import open_folder
from client.restore.whole import NewFiles, write_whole
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.keys import DataKeys
from client.vault.sealing import open_blob
from client.worker_program import answer_messages

_WRITTEN = 1 << 20  # bytes of opened blobs that are written together

Attributes = Sequence[tuple[str, bytes]]
Sealed = tuple[BlobId, int, int, int]  # id, where it begins in the memory, sealed and uncompressed length


class SmallFile(NamedTuple):
    """A file to make in the folder of that number of its job, and its metadata as a node has it.

    In a job it is a plain tuple of the same: that is packed and unpacked in half the time.
    """

    folder: int
    name: bytes
    partial: bytes  # its name until it is whole
    unix_mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    extended_attributes: Attributes


File = tuple[int, bytes, bytes, int, int, int, int, int, Attributes]
Task = tuple[Sealed, Sequence[File]]


class Setting(NamedTuple):
    """What all jobs have in common: the data keys, and the descriptor of the target."""

    encrypt: bytes
    mac_k: bytes
    mac_r: bytes
    target: int


class Job(NamedTuple):
    """Files to make. A folder is the number of the one above it, counted from 1 and 0 for the target, and its name."""

    folders: Sequence[tuple[int, bytes]]
    tasks: Sequence[Task]


class Outcome(NamedTuple):
    """The numbers of tasks that were not carried out, wholly or in part; complaints by numbers of task and file."""

    undone: list[int]
    complaints: list[tuple[int, int, str]]


class SmallFiles:
    """Carries out jobs, whose blobs lie in `sealed`."""

    def __init__(self, setting: Setting, sealed: memoryview) -> None:
        self._keys = DataKeys(setting.encrypt, setting.mac_k, setting.mac_r)
        self._target = setting.target
        self._sealed = sealed.toreadonly()

    def carry_out(self, job: Job) -> Outcome:
        """Open blobs and write their files, some and some: the processor's caches do not hold both works at once."""
        outcome = Outcome([], [])
        with contextlib.ExitStack() as stack:
            folders = [(folder, NewFiles()) for folder in self._open(job.folders, stack)]
            ready: list[tuple[int, bytes]] = []
            size = 0
            for number, (sealed, _) in enumerate(job.tasks):
                try:
                    content = self._content(*sealed)
                except OortError:
                    outcome.undone.append(number)
                    continue
                ready.append((number, content))
                size += len(content)
                if size >= _WRITTEN:
                    _write(job, folders, ready, outcome)
                    ready, size = [], 0
            _write(job, folders, ready, outcome)
        return outcome

    def _open(self, folders: Sequence[tuple[int, bytes]], stack: contextlib.ExitStack) -> list[int]:
        """Descriptors of the folders; -1, in which nothing can be made, for one that cannot be opened."""
        opened = [self._target]
        for above, name in folders:
            folder = -1
            with contextlib.suppress(OSError):
                folder = open_folder(name, opened[above])
                stack.callback(os.close, folder)
            opened.append(folder)
        return opened

    def _content(self, blob: BlobId, start: int, length: int, uncompressed_length: int) -> bytes:
        entry = PackEntry(blob, BlobKind.DATA, 0, length, uncompressed_length)
        return open_blob(self._keys, entry, self._sealed[start : start + length])


def _write(
    job: Job, folders: Sequence[tuple[int, NewFiles]], ready: Sequence[tuple[int, bytes]], outcome: Outcome
) -> None:
    for number, content in ready:
        try:
            for position, fields in enumerate(job.tasks[number][1]):
                file = SmallFile(*fields)
                said = write_whole(file, file.partial, content, *folders[file.folder])
                outcome.complaints.extend((number, position, complaint) for complaint in said)
        except OSError:
            outcome.undone.append(number)


def main() -> None:
    """Carry out the jobs of a restore in another process."""
    os.umask(0)  # a file's mode is what it is made with
    gc.disable()  # there are no cycles, and looking for them takes 7 % of the time
    answer_messages(lambda setting, room: SmallFiles(setting, room).carry_out)
