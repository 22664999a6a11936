"""The workers of one backup: each of its threads has one of its own, and a process too once there is much to do.

Kept true: a process is not waited for while it starts; when all are closed, none is left.
"""

import threading

from client.backup.processes import ChunkMemory, ProcessWorker, start_worker
from client.backup.worker import OwnWorker, Sealing, Worker
from client.vault.chunker import Chunker
from client.worker_process import ProcessLost

_WORTH_FILES = 2000  # to start a process takes as long as to read so many
_WORTH_BYTES = 128 << 20


class Staff:
    """Safe for several threads."""

    def __init__(self, sealing: Sealing, chunker: Chunker, memory: ChunkMemory) -> None:
        """`memory` is where the chunks of large files lie."""
        self._sealing = sealing
        self._chunker = chunker
        self._memory = memory
        self._files = 0
        self._bytes = 0
        self._closed = False
        self._processes: list[ProcessWorker] = []
        self._lock = threading.Lock()

    def expect(self, files: int, size: int) -> None:
        """So many more files have to be read; or, with none, `size` more bytes of one. For one thread."""
        self._files += files
        self._bytes += size

    def post(self) -> "Post":
        """For one thread."""
        return Post(self, OwnWorker(self._sealing, self._chunker, self._memory.view))

    def process(self) -> ProcessWorker | None:
        """A new process; None if there can be none any more."""
        with self._lock:
            process = None if self._closed else start_worker(self._sealing, self._memory)
            if process is not None:
                self._processes.append(process)
            return process

    @property
    def wants_processes(self) -> bool:
        return self._files >= _WORTH_FILES or self._bytes >= _WORTH_BYTES

    def close(self) -> None:
        """End all processes, whatever they do, and start no more."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.close()
            self._processes.clear()
            self._memory.close()


class Post:
    """Where one thread finds who does its next task."""

    def __init__(self, staff: Staff, own: OwnWorker) -> None:
        self._staff = staff
        self._own = own
        self._process: ProcessWorker | None = None
        self._asked = False

    def worker(self) -> Worker:
        if not self._asked and self._staff.wants_processes:
            self._asked = True
            self._process = self._staff.process()
        if self._process is not None:
            try:
                if self._process.is_ready():
                    return self._process
            except ProcessLost:
                self._process = None
        return self._own
