"""Reading files and cutting them into blobs.

Kept true: what a node says about a file was read through the same open file as its content; a file that changed while
it was read is in the snapshot as it was read, and named; one that cannot be read to its end is named and left out.

Small files travel in batches, so that a task of a worker costs the interpreter's lock once for hundreds of files; a
big file is cut by one reader, and its chunks are hashed, compressed and sealed by all workers.
"""

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from client.backup.attributes import storable, storable_attributes
from client.backup.packing import Packer
from client.backup.request import Counters
from client.backup.scan import FileFound, reason
from client.backup.trees import TreeWriter
from client.flow import Buffers, ByteQueue, Crew, Loan
from client.platforms.linux import open_for_reading, read_ahead, read_attributes, reader_past_holes
from client.platforms.nodes import encode_file, read_node
from client.vault.blobs import BlobId, BlobKind, Buffer
from client.vault.chunker import MAX_CHUNK, MIN_CHUNK, Chunker
from client.vault.nodes import Node

BATCH_FILES = 256
BATCH_BYTES = 2 << 20  # also the size up to which a file is small
_TASK_BYTES = 2 << 20  # chunks of a big file that a worker takes at once
_QUEUED_BYTES = 8 << 20
_QUEUED_BIG_FILES = 1024
_BUFFERS_MORE = 1  # than one a thread: what is read next while all are busy
_FILE_COST = 1 << 10  # what an unread file holds in memory
_STATED = 7  # what a stat_result begins with: mode, inode, device, links, owner, group, size

_SETTLED_SECONDS = 60  # since a file changed: file systems have told of what was just written that it is a hole

ReadInto = Callable[[memoryview], int | None]

_REPLACED = "it was replaced by something else while the backup ran: left out"
_CHANGED = "it changed while it was read: stored as it was read"


@dataclass(slots=True, eq=False)
class _BigFile:
    """A file whose chunks are under way; the workers fill `parts` in any order."""

    found: FileFound
    parts: list[Sequence[BlobId]] = field(default_factory=list)
    waiting: int = 1  # tasks not done, and 1 for the reader
    reached: frozenset[BlobId] = frozenset()
    node: Node | None = None
    size: int = 0
    failure: str = ""


class _SmallFile(NamedTuple):
    """A small file that was read whole; its content has so many `chunks`."""

    found: FileFound
    stat: os.stat_result
    attributes: tuple[tuple[str, bytes], ...]
    size: int
    chunks: int


@dataclass(frozen=True, slots=True)
class _Chunks:
    """One task: store these chunks, which lie in a lent buffer, as part number `part` of a file."""

    file: _BigFile
    part: int
    chunks: list[memoryview]
    loan: Loan


class Reader:
    """Takes files from the scan; reads, cuts and stores them by threads of its own."""

    def __init__(self, crew: Crew, packer: Packer, trees: TreeWriter, chunker: Chunker, counters: Counters) -> None:
        self._crew = crew
        self._packer = packer
        self._trees = trees
        self._chunker = chunker
        self._counters = counters
        self._tasks: ByteQueue[list[FileFound] | _Chunks] = ByteQueue(crew, _QUEUED_BYTES)
        self._big: ByteQueue[FileFound] = ByteQueue(crew, _QUEUED_BIG_FILES)
        self._batch: list[FileFound] = []
        self._batch_bytes = 0
        self._lock = threading.Lock()
        self._readers = 0
        self._buffers = Buffers(crew, 0, MAX_CHUNK)
        self._threads: list[threading.Thread] = []

    def start(self, workers: int, readers: int) -> None:
        """`workers` hash, compress and seal; `readers` is the number of big files that are read at once."""
        self._readers = readers
        self._buffers = Buffers(self._crew, workers + readers + _BUFFERS_MORE, MAX_CHUNK)
        for number in range(workers):
            self._threads.append(self._crew.start(f"seal-{number}", self._work))
        for number in range(readers):
            self._threads.append(self._crew.start(f"read-{number}", self._read_big_files))

    def take(self, found: FileFound) -> None:
        """A file that the scan found. Called by the scan's thread alone; waits for room. Raises Stopped."""
        size = found.stat.st_size
        if size > BATCH_BYTES:
            self._big.put(found, 1)
            return
        self._batch.append(found)
        self._batch_bytes += size
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_FILES:
            self._flush()

    def take_stream(self, found: FileFound, readinto: ReadInto, node: Node) -> int:
        """Read a stream to its end, in the caller's thread, as a file of which `node` says the rest; answers its size.

        Raises OSError, Stopped.
        """
        file = _BigFile(found)
        self._feed(file, readinto)
        file.node = replace(node, size=file.size)
        self._part_done(file)
        return file.size

    def close(self) -> None:
        """The scan is over: the threads end when everything is read."""
        self._flush()
        self._big.close()

    def wait(self) -> None:
        """Wait until everything is read and stored. Raises Stopped."""
        self._crew.wait(self._threads)

    def _flush(self) -> None:
        batch, size = self._batch, self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        if batch:
            self._tasks.put(batch, size + len(batch) * _FILE_COST)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if isinstance(task, _Chunks):
                self._store_chunks(task)
            else:
                self._store_batch(task)

    # Small files: read, stored and handed on by one worker

    def _store_batch(self, batch: list[FileFound]) -> None:
        chunks: list[Buffer] = []
        files: list[_SmallFile] = []
        reached: set[BlobId] = set()
        for found in batch:
            opened = self._open(found)
            if opened is None:
                continue
            try:
                small = self._read_small(found, *opened)
                if small is None:
                    self._store_grown(found, *opened)
                    continue
            except OSError as error:
                self._leave_out(found, reason(error))
                continue
            finally:
                os.close(opened[0])
            file, parts = small
            chunks += parts
            files.append(file)
            if found.known is not None and found.known.content:
                reached.update(found.known.content)
        ids = self._packer.store(BlobKind.DATA, chunks, reached) if chunks else []
        new = sum(file.found.known is None for file in files)
        self._counters.add(files_new=new, files_changed=len(files) - new, done_bytes=sum(file.size for file in files))
        position = 0
        for found, as_read, attributes, size, count in files:
            content = ids[position : position + count]
            position += count
            encoded = encode_file(found.name, as_read, size, attributes, content)
            self._trees.arrived_encoded(found.folder, found.name, encoded)

    def _read_small(
        self, found: FileFound, opened: int, before: os.stat_result
    ) -> tuple[_SmallFile, Sequence[Buffer]] | None:
        """The file and its chunks; None if it is not small any more. Raises OSError."""
        size = before.st_size
        content = os.read(opened, size + 1)
        if len(content) != size:
            # It shrank, or it grows: take what is there, but no more than a batch may hold.
            parts = [content]
            while parts[-1]:
                parts.append(os.read(opened, BATCH_BYTES))
                if sum(map(len, parts)) > BATCH_BYTES:
                    return None
            content = b"".join(parts)
            size = len(content)
            found.folder.listing = None  # /proc and /sys announce others: the next backup reads it again
        attributes = storable_attributes(read_attributes(opened), found.path, self._counters)
        self._compare(found, before, os.fstat(opened))
        chunks: Sequence[Buffer] = self._chunker.cut(content) if size > MIN_CHUNK else [content] if size else []
        return _SmallFile(found, before, attributes, size, len(chunks)), chunks

    def _store_grown(self, found: FileFound, opened: int, before: os.stat_result) -> None:
        """A file that the scan found small and that is not: cut and stored by this worker alone. Raises OSError."""
        os.lseek(opened, 0, os.SEEK_SET)
        content: list[BlobId] = []
        size = 0
        # Lent buffers may all be held by tasks that wait for this very thread.
        buffer = memoryview(bytearray(MAX_CHUNK))
        with open(opened, "rb", buffering=0, closefd=False) as raw:
            cutter = self._chunker.cutter(raw.readinto)
            while not cutter.is_at_end:
                self._crew.ensure_running()
                chunks = cutter.fill(buffer)
                content += self._packer.store(BlobKind.DATA, chunks)
                size += sum(map(len, chunks))
        node = storable(read_node(found.name, opened, before, tuple(content), size), found.path, self._counters)
        self._counters.warn(found.path, _CHANGED)
        found.folder.listing = None
        self._arrived(found, node)

    # Big files: cut by a reader, stored by the workers

    def _read_big_files(self) -> None:
        while (found := self._big.get()) is not None:
            opened = self._open(found)
            if opened is None:
                continue
            try:
                self._read_big(found, *opened)
            finally:
                os.close(opened[0])
        with self._lock:
            self._readers -= 1
            last = not self._readers
        if last:
            self._tasks.close()

    def _read_big(self, found: FileFound, opened: int, before: os.stat_result) -> None:
        file = _BigFile(found)
        try:
            read_ahead(opened)
            self._feed(file, reader_past_holes(opened, is_settled=time.time() - before.st_ctime > _SETTLED_SECONDS))
            node = read_node(found.name, opened, before, size=file.size)
            file.node = storable(node, found.path, self._counters)
            self._compare(found, before, os.fstat(opened))
        except OSError as error:
            file.failure = reason(error)
        self._part_done(file)

    def _feed(self, file: _BigFile, readinto: ReadInto) -> None:
        """Cut what `readinto` gives, and hand it to the workers. Raises OSError, Stopped."""
        cutter = self._chunker.cutter(readinto)
        while not cutter.is_at_end:
            loan = self._buffers.lend()
            try:
                for chunks in _grouped(cutter.fill(loan.buffer)):
                    loan.share()
                    self._hand_out(file, chunks, loan)
            finally:
                loan.let_go()

    def _hand_out(self, file: _BigFile, chunks: list[memoryview], loan: Loan) -> None:
        self._crew.ensure_running()
        with self._lock:
            part = len(file.parts)
            file.parts.append(())
            file.waiting += 1
        size = sum(map(len, chunks))
        file.size += size
        self._tasks.put(_Chunks(file, part, chunks, loan), size)

    def _store_chunks(self, task: _Chunks) -> None:
        known = task.file.found.known
        reached = task.file.reached
        if not reached and known is not None and known.content:
            reached = task.file.reached = frozenset(known.content)
        task.file.parts[task.part] = self._packer.store(BlobKind.DATA, task.chunks, reached)
        task.loan.let_go()
        self._counters.add(done_bytes=sum(map(len, task.chunks)))
        self._part_done(task.file)

    def _part_done(self, file: _BigFile) -> None:
        with self._lock:
            file.waiting -= 1
            if file.waiting:
                return
        if file.failure or file.node is None:
            self._leave_out(file.found, file.failure)
        else:
            content = tuple(identity for part in file.parts for identity in part)
            self._arrived(file.found, replace(file.node, content=content), counted=True)

    # Both

    def _open(self, found: FileFound) -> tuple[int, os.stat_result] | None:
        """The open file and what it is, or None if it cannot be read or is no file any more."""
        try:
            opened = open_for_reading(found.path, found.stat.st_uid)
        except OSError as error:
            self._leave_out(found, _REPLACED if error.errno == errno.ELOOP else reason(error))
            return None
        is_what = os.fstat(opened)
        if stat.S_ISREG(is_what.st_mode):
            return opened, is_what
        os.close(opened)
        self._leave_out(found, _REPLACED)
        return None

    def _compare(self, found: FileFound, before: os.stat_result, after: os.stat_result) -> None:
        """See whether a file stayed what it was while it was read, and what it was when the folder was listed."""
        if not _is_as_before(before, after):
            self._counters.warn(found.path, _CHANGED)
            found.folder.listing = None
        elif before[:_STATED] != found.stat[:_STATED] or not _is_as_before(before, found.stat):
            found.folder.listing = None

    def _arrived(self, found: FileFound, node: Node, *, counted: bool = False) -> None:
        known = "files_new" if found.known is None else "files_changed"
        self._counters.add(**{known: 1}, done_bytes=0 if counted else node.size)
        if node.size != found.stat.st_size:  # /proc and /sys announce others: the next backup reads it again
            found.folder.listing = None
        self._trees.arrived(found.folder, node)

    def _leave_out(self, found: FileFound, why: str) -> None:
        self._counters.warn(found.path, why)
        self._counters.add(total_files=-1, total_bytes=-found.stat.st_size)
        self._trees.arrived(found.folder, None)


def _grouped(chunks: list[memoryview]) -> Iterator[list[memoryview]]:
    """Neighbouring chunks in groups that make a worker's task each."""
    group: list[memoryview] = []
    size = 0
    for chunk in chunks:
        group.append(chunk)
        size += len(chunk)
        if size >= _TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _is_as_before(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file stayed what it was while it was read. Sizes read are no sign: /proc and /sys announce others."""
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
