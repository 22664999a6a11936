"""Processes of a restore, which open and write small files.

Kept true: what such a process does not do, or dies of, is done here by the usual way, which knows what to say of it;
so nothing depends on there being any. Each has one job at a time, whose blobs lie in memory that is shared with it.
"""

import contextlib
from collections.abc import Sequence
from typing import cast

from client.flow import Crew
from client.restore.plan import Place
from client.restore.small_files import File, Job, Outcome, Sealed, Setting, Task
from client.restore.target import Target, TargetFolder
from client.restore.write import FileWriter
from client.vault.blobs import PackEntry
from client.vault.keys import DataKeys
from client.worker_process import ProcessLost, WorkerProcess, start_process

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
        self._all: list[WorkerProcess] = []
        self._free: list[WorkerProcess] = []
        self._lost = 0
        self._changed = crew.condition()

    def start(self) -> None:
        """Start them, unless that was done, or one processor is all there is."""
        if self._all:
            return
        keys = self._keys
        with contextlib.suppress(OSError), self._target.opened(self._target.root) as root:
            setting = Setting(keys.encrypt, keys.mac_k, keys.mac_r, root)
            for _ in range(_PROCESSES):
                process = start_process(_PROGRAM, setting, room=_MEMORY, given=root)
                if process is None:
                    break
                self._all.append(process)
        with self._changed:
            self._free = list(self._all)
            self._changed.notify_all()

    def close(self) -> None:
        """Have all of them end, and wait for that."""
        for process in self._all:
            process.close()

    def kill(self) -> None:
        """End all of them, whatever they do: what they were asked is not done."""
        for process in self._all:
            process.kill()

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
            outcome = _carry_out(process, job, body)
        finally:
            self._give_back(process, lost=outcome is None)
        if outcome is None:
            return blobs
        done = self._note(taken, outcome)
        return [blob for blob in blobs if blob[0] not in done]

    def _take(self) -> WorkerProcess | None:
        with self._changed:
            self._crew.wait_until(self._changed, lambda: bool(self._free) or self._lost == len(self._all))
            return self._free.pop() if self._free else None

    def _give_back(self, process: WorkerProcess, *, lost: bool) -> None:
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
        if folder in self._numbers:
            return self._numbers[folder]
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


def _carry_out(process: WorkerProcess, job: Job, body: memoryview) -> Outcome | None:
    """Have a job done, whose blobs lie in `body`; None if it cannot be: the process is no more, and writes nothing."""
    process.room[: len(body)] = body
    try:
        return cast("Outcome", process.ask(job))
    except ProcessLost:
        return None


def _are_small_files(places: Sequence[Place]) -> bool:
    """Whether each place is all of a file that is not begun."""
    for place in places:
        file = place.file
        if file.pieces != 1 or file.partial or file.failed:
            return False
    return True


def _small_file(place: Place, folders: _Folders) -> File:
    """A SmallFile, as it goes into a job. Raises OSError."""
    folder, node = place.file.folder, place.file.node
    return (
        *(folders.number(folder), node.name, folder.partial_name(node.name), node.unix_mode, node.uid, node.gid),
        *(node.atime_ns, node.mtime_ns, node.extended_attributes),
    )
