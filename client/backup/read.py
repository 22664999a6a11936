"""Reading files and cutting them into blobs.

Kept true: what a node says about a file was read through the same open file as its content; a file that changed while
it was read is in the snapshot as it was read, and named; one that cannot be read to its end is named and left out.

Small files travel in batches, so that a task of a worker costs the interpreter's lock once for hundreds of files; a
big file is cut by one reader, and its chunks are hashed, compressed and sealed by all workers.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from client.backup.attributes import storable
from client.backup.destinations import Destinations
from client.backup.processes import ChunkMemory
from client.backup.regular import CHANGED, Seen, open_regular, why_unopened
from client.backup.request import Counters
from client.backup.scan import FileFound
from client.backup.small_files import BATCH_BYTES, Batch, Remark, Wanted
from client.backup.staff import Post, Staff
from client.backup.trees import TreeWriter
from client.backup.worker import Span, Worker
from client.errors import reason_of
from client.flow import Buffers, ByteQueue, Crew, Loan
from client.platforms.linux import read_ahead, reader_past_holes
from client.platforms.nodes import read_node
from client.vault.blobs import BlobId, BlobKind
from client.vault.chunker import MAX_CHUNK, Chunker
from client.vault.nodes import Node

BATCH_FILES = 256
_TASK_BYTES = 2 << 20  # chunks of a big file that a worker takes at once
_QUEUED_BYTES = 8 << 20
_QUEUED_BIG_FILES = 1024
_FILE_COST = 1 << 10  # what an unread file holds in memory

_SETTLED_SECONDS = 60  # since a file changed: file systems have told of what was just written that it is a hole

ReadInto = Callable[[memoryview], int | None]


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


@dataclass(frozen=True, slots=True)
class _Chunks:
    """One task: store these chunks, which lie in a lent buffer, as part number `part` of a file."""

    file: _BigFile
    part: int
    spans: list[Span]
    loan: Loan

    @property
    def size(self) -> int:
        return sum(length for _, length in self.spans)


class Reader:
    """Takes files from the scan; reads, cuts and stores them by threads of its own."""

    def __init__(
        self, crew: Crew, vaults: Destinations, trees: TreeWriter, chunker: Chunker, counters: Counters
    ) -> None:
        self._crew = crew
        self._vaults = vaults
        self._trees = trees
        self._chunker = chunker
        self._counters = counters
        self._tasks: ByteQueue[list[FileFound] | _Chunks] = ByteQueue(crew, _QUEUED_BYTES)
        self._big: ByteQueue[FileFound] = ByteQueue(crew, _QUEUED_BIG_FILES)
        self._batch: list[FileFound] = []
        self._batch_bytes = 0
        self._lock = threading.Lock()
        self._readers = 0
        self._buffers: Buffers
        self._staff: Staff | None = None
        self._threads: list[threading.Thread] = []

    def start(self, workers: int, readers: int) -> None:
        """`workers` hash, compress and seal; `readers` is the number of big files that are read at once."""
        self._readers = readers
        memory = ChunkMemory((workers + readers) * MAX_CHUNK)
        self._buffers = Buffers(self._crew, memory.view, MAX_CHUNK)
        self._staff = staff = Staff(self._vaults.sealing, self._chunker, memory)
        for number in range(workers):
            self._threads.append(self._crew.start(f"seal-{number}", partial(self._work, staff.post())))
        for number in range(readers):
            self._threads.append(self._crew.start(f"read-{number}", self._read_big_files))

    def take(self, found: FileFound) -> None:
        """A file that the scan found. Called by the scan's thread alone; waits for room. Raises Stopped."""
        size = found.stat.st_size
        if self._staff is not None:
            self._staff.expect(1, size)
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
        staff = self._staff

        def counted(room: memoryview) -> int | None:
            """A stream does not say how much will come: what has come is worth a process, or not."""
            read = readinto(room)
            if staff is not None and read:
                staff.expect(0, read)
            return read

        self._feed(file, counted)
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

    def end(self) -> None:
        """End all processes, whatever they do."""
        if self._staff is not None:
            self._staff.close()

    def _flush(self) -> None:
        batch, size = self._batch, self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        if batch:
            self._tasks.put(batch, size + len(batch) * _FILE_COST)

    def _work(self, post: Post) -> None:
        while (task := self._tasks.get()) is not None:
            if isinstance(task, _Chunks):
                self._store_chunks(task, post.worker())
            else:
                self._store_files(task, post.worker())

    # Small files: read, stored and handed on by one worker

    def _store_files(self, files: list[FileFound], worker: Worker) -> None:
        """Store a batch, which is more than one if more is read than the scan saw."""
        while files:
            wanted = [Wanted(found.path, found.name, Seen.of(found.stat)) for found in files]
            batch = worker.read(wanted)
            done, files = files[: len(batch.nodes)], files[len(batch.nodes) :]
            reached = {blob for found in done if found.known is not None for blob in found.known.content or ()}
            self._vaults.store_hashed(BlobKind.DATA, batch.ids, worker.seal, reached)
            self._note(done, batch)

    def _note(self, files: list[FileFound], batch: Batch) -> None:
        """Files were read, and what is new of them is in packs."""
        counts = Counter(_field_of(found) for found, encoded in zip(files, batch.nodes, strict=True) if encoded)
        self._counters.add(**counts, done_bytes=batch.size)
        for remark in batch.remarks:
            self._heed(files[remark.file], remark)
        self._trees.arrived_encoded(
            [(found.folder, found.name, encoded) for found, encoded in zip(files, batch.nodes, strict=True) if encoded]
        )

    def _heed(self, found: FileFound, remark: Remark) -> None:
        for warning in remark.warnings:
            self._counters.warn(found.path, warning)
        if not remark.as_listed:
            found.folder.listing = None
        if remark.left_out:
            self._leave_out(found, remark.left_out)
        elif remark.has_grown:
            self._store_grown(found)

    def _store_grown(self, found: FileFound) -> None:
        """A file that the scan found small and that is not: cut and stored by this thread alone."""
        try:
            opened, before = open_regular(found.path, found.stat.st_uid)
        except OSError as error:
            self._leave_out(found, why_unopened(error))
            return
        content: list[BlobId] = []
        size = 0
        # Lent buffers may all be held by tasks that wait for this very thread.
        buffer = memoryview(bytearray(MAX_CHUNK))
        try:
            with open(opened, "rb", buffering=0) as raw:
                cutter = self._chunker.cutter(raw.readinto)
                while not cutter.is_at_end:
                    self._crew.ensure_running()
                    chunks = cutter.fill(buffer)
                    content += self._vaults.store(BlobKind.DATA, chunks)
                    size += sum(map(len, chunks))
                node = read_node(found.name, opened, before, tuple(content), size)
        except OSError as error:
            self._leave_out(found, reason_of(error))
            return
        self._counters.warn(found.path, CHANGED)
        self._arrived(found, storable(node, partial(self._counters.warn, found.path)))

    # Big files: cut by a reader, stored by the workers

    def _read_big_files(self) -> None:
        while (found := self._big.get()) is not None:
            try:
                opened, before = open_regular(found.path, found.stat.st_uid)
            except OSError as error:
                self._leave_out(found, why_unopened(error))
                continue
            try:
                self._read_big(found, opened, before)
            finally:
                os.close(opened)
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
            file.node = storable(node, partial(self._counters.warn, found.path))
            self._compare(found, before, os.fstat(opened))
        except OSError as error:
            file.failure = reason_of(error)
        self._part_done(file)

    def _feed(self, file: _BigFile, readinto: ReadInto) -> None:
        """Cut what `readinto` gives, and hand it to the workers. Raises OSError, Stopped."""
        cutter = self._chunker.cutter(readinto)
        while not cutter.is_at_end:
            loan = self._buffers.lend()
            try:
                for spans in _grouped(cutter.fill(loan.buffer), loan.start):
                    loan.share()
                    self._hand_out(file, spans, loan)
            finally:
                loan.let_go()

    def _hand_out(self, file: _BigFile, spans: list[Span], loan: Loan) -> None:
        self._crew.ensure_running()
        with self._lock:
            part = len(file.parts)
            file.parts.append(())
            file.waiting += 1
        task = _Chunks(file, part, spans, loan)
        file.size += task.size
        self._tasks.put(task, task.size)

    def _store_chunks(self, task: _Chunks, worker: Worker) -> None:
        known = task.file.found.known
        reached = task.file.reached
        if not reached and known is not None and known.content:
            reached = task.file.reached = frozenset(known.content)
        ids = worker.hash(task.spans)
        self._vaults.store_hashed(BlobKind.DATA, ids, worker.seal, reached)
        task.file.parts[task.part] = ids
        task.loan.let_go()
        self._counters.add(done_bytes=task.size)
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

    def _compare(self, found: FileFound, before: os.stat_result, after: os.stat_result) -> None:
        """See whether a file stayed what it was while it was read, and what it was when the folder was listed."""
        seen = Seen.of(before)
        if not seen.is_unchanged(after):
            self._counters.warn(found.path, CHANGED)
            found.folder.listing = None
        elif seen != Seen.of(found.stat):
            found.folder.listing = None

    def _arrived(self, found: FileFound, node: Node, *, counted: bool = False) -> None:
        self._counters.add(**{_field_of(found): 1}, done_bytes=0 if counted else node.size)
        if node.size != found.stat.st_size:  # /proc and /sys announce others: the next backup reads it again
            found.folder.listing = None
        self._trees.arrived(found.folder, node)

    def _leave_out(self, found: FileFound, why: str) -> None:
        self._counters.warn(found.path, why)
        self._counters.add(total_files=-1, total_bytes=-found.stat.st_size)
        self._trees.arrived(found.folder, None)


def _field_of(found: FileFound) -> str:
    """The figure in which a file that was read counts."""
    if found.known is None:
        return "files_new"
    return "files_unmodified" if found.is_unchanged else "files_changed"


def _grouped(chunks: list[memoryview], start: int) -> Iterator[list[Span]]:
    """Neighbouring chunks, of which the first begins at `start`, in groups that make a worker's task each."""
    group: list[Span] = []
    size = 0
    for chunk in chunks:
        length = len(chunk)
        group.append((start, length))
        start += length
        size += length
        if size >= _TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
