"""Processes that open and write small files, so that one interpreter's lock does not keep a processor idle.

Kept true: what such a process does not do, or dies of, is done here by the usual way, which knows what to say of it;
so nothing depends on there being any. Each has one job at a time, whose blobs lie in memory that is shared with it.
"""

import contextlib
import errno
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, cast

from client.flow import Crew
from client.platforms.linux import processors, shared_memory
from client.restore.plan import Place
from client.restore.small_files import Job, Outcome, Sealed, Setting, SmallFile, Task
from client.restore.target import Target, TargetFolder
from client.restore.write import FileWriter
from client.vault.blobs import PackEntry
from client.vault.keys import DataKeys

_PROCESSES = 2
_PROGRAM = "from client.restore.small_files import main; main()"
_MEMORY = 4 << 20  # sealed bytes of one job
_FOLDERS = 512  # of one job, about: all are open at once

Blobs = Sequence[tuple[PackEntry, Sequence[Place]]]


class Processes:
    """Processes that write to one target. Safe for several threads; one starts and closes them."""

    def __init__(self, crew: Crew, keys: DataKeys, target: Target, writer: FileWriter) -> None:
        self._crew = crew
        self._keys = keys
        self._target = target
        self._writer = writer
        self._all: list[_Process] = []
        self._free: list[_Process] = []
        self._lost = 0
        self._changed = crew.condition()

    def start(self) -> None:
        """Start them, unless that was done, or one processor is all there is."""
        if self._all or processors() == 1:
            return
        with contextlib.suppress(OSError), self._target.opened(self._target.root) as root:
            for _ in range(_PROCESSES):
                self._all.append(_Process(self._keys, root))
        with self._changed:
            self._free = list(self._all)
            self._changed.notify_all()

    def close(self) -> None:
        """Have all of them end, and wait for that."""
        for process in self._all:
            process.close()

    def write(self, start: int, body: memoryview, blobs: Blobs) -> Blobs:
        """Open and write those of the blobs that are whole small files, and answer all others.

        `body` is what lies from `start` of the pack. Waits for a process that is free. Raises Stopped.
        """
        if self._lost == len(self._all) or len(body) > _MEMORY:
            return blobs
        job, taken = self._job(start, [blob for blob in blobs if _are_small_files(blob[1])])
        process = self._take() if taken else None
        if process is None:
            return blobs
        outcome = None
        try:
            outcome = process.carry_out(job, body)
        finally:
            self._give_back(process, lost=outcome is None)
        if outcome is None:
            return blobs
        done = self._note(taken, outcome)
        return [blob for blob in blobs if blob[0] not in done]

    def _take(self) -> "_Process | None":
        with self._changed:
            while not self._free and self._lost < len(self._all):
                self._crew.ensure_running()
                self._changed.wait()
            self._crew.ensure_running()
            return self._free.pop() if self._free else None

    def _give_back(self, process: "_Process", *, lost: bool) -> None:
        with self._changed:
            if lost:
                self._lost += 1
            else:
                self._free.append(process)
            self._changed.notify_all()

    def _job(self, start: int, blobs: Blobs) -> tuple[Job, Blobs]:
        """The job, and the blobs whose files it makes: those of as many folders as it may have, which can be made."""
        folders = _Folders(self._target)
        tasks: list[Task] = []
        taken = []
        for entry, places in blobs:
            if len(folders.listed) >= _FOLDERS:
                break
            try:
                files = [_small_file(place, folders) for place in places]
            except OSError:
                continue
            sealed: Sealed = entry.id, entry.offset - start, entry.length, entry.uncompressed_length
            tasks.append((sealed, files))
            taken.append((entry, places))
        return Job(folders.listed, tasks), taken

    def _note(self, taken: Blobs, outcome: Outcome) -> frozenset[PackEntry]:
        """Count what is done; answers which blobs that were."""
        undone = frozenset(outcome.undone)
        done = [blob for number, blob in enumerate(taken) if number not in undone]
        self._writer.note_written([place.file for _, places in done for place in places])
        for number, position, complaint in outcome.complaints:
            if number not in undone:
                self._writer.complain(taken[number][1][position].file, [complaint])
        return frozenset(entry for entry, _ in done)


class _Process:
    """One process and the memory that is shared with it. For one thread at a time."""

    def __init__(self, keys: DataKeys, target: int) -> None:
        """Start it. Raises OSError."""
        if not sys.executable:
            raise OSError(errno.ENOENT, "this Python cannot be started again")
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            memory = shared_memory(_MEMORY)
            theirs.callback(os.close, memory)
            outcomes, answers = os.pipe()  # not standard output, to which whatever starts with Python may write
            theirs.callback(os.close, answers)
            self._outcomes = ours.enter_context(os.fdopen(outcomes, "rb"))
            self._memory = ours.enter_context(mmap.mmap(memory, _MEMORY))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(target, memory, answers),
                process_group=0,  # a terminal's signals are for us
            )
            ours.pop_all()
        self._messages = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(OSError):  # it is no more, which the first job finds out
            self._send(Setting(keys.encrypt, keys.mac_k, keys.mac_r, target, memory, answers))

    def carry_out(self, job: Job, body: memoryview) -> Outcome | None:
        """Have a job done, whose blobs lie in `body`; None if it cannot be, and then the process is no more."""
        self._memory[: len(body)] = body
        try:
            self._send(job)
            return cast("Outcome", pickle.load(self._outcomes))  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError):
            self._process.kill()  # or it would write what is now done here
            self._process.wait()
            return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._messages.close()
        self._outcomes.close()
        self._process.wait()
        self._memory.close()

    def _send(self, message: Setting | Job) -> None:
        pickle.dump(message, self._messages, pickle.HIGHEST_PROTOCOL)
        self._messages.flush()


class _Folders:
    """The folders of a job, each once, after the one above it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._numbers: dict[TargetFolder, int] = {}
        self.listed: list[tuple[int, bytes]] = []

    def number(self, folder: TargetFolder) -> int:
        """What a job calls a folder, which is there then. Raises OSError."""
        if not folder.made:
            with self._target.opened(folder):
                pass
        unknown: list[TargetFolder] = []
        above: TargetFolder | None = folder
        while above is not None and above.above is not None and above not in self._numbers:
            unknown.append(above)
            above = above.above
        number = self._numbers.get(above, 0) if above is not None else 0
        for each in reversed(unknown):
            self.listed.append((number, each.name))
            number = self._numbers[each] = len(self.listed)
        return number


def _are_small_files(places: Sequence[Place]) -> bool:
    """Whether each place is all of a file that is not begun."""
    for place in places:
        file = place.file
        if file.pieces != 1 or file.partial or file.failed:
            return False
    return True


def _small_file(place: Place, folders: _Folders) -> SmallFile:
    folder, node = place.file.folder, place.file.node
    return SmallFile(
        *(folders.number(folder), node.name, folder.partial_name(node.name), node.unix_mode, node.uid, node.gid),
        *(node.atime_ns, node.mtime_ns, node.extended_attributes),
    )
