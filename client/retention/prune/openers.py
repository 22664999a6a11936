"""A process that opens small blobs, so that a second processor is not idle while packs are repacked.

Kept true: it says of a run that all its blobs open, with the names that they must have, only when that is so; of
any other, and of all it had in hand when it died, that is found out here. So nothing depends on there being one.
"""

import contextlib
import gc
import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, cast

from client.errors import OortError
from client.platforms.linux import processors
from client.reachability.reading import Run
from client.vault.index_files import IndexedPack, iterate_entries
from client.vault.keys import DataKeys
from client.vault.sealing import open_blob

try:
    import fcntl
except ImportError:  # Windows: there is no such process there
    fcntl = None  # type: ignore[assignment]

_PROGRAM = "from client.retention.prune.openers import main; main({answers})"
_KEYS = struct.Struct("32s16s16s")
_JOB = struct.Struct("<III")  # where in the pack the blobs begin; bytes of the table, and of the blobs
_ALL_OPEN, _NOT_ALL = b"\1", b"\0"
_SMALL = 64 << 10  # sealed bytes of a blob, on average, up to which it is worth the way
_UNDER_WAY = 4 << 20  # bytes of runs that wait for an answer
_PIPE = 1 << 20
_WORTH_IT = 20_000  # blobs: to start a process takes as long as to open so many


class Opener:
    """Takes runs, and gives each back with whether all of it opens; runs come back in their order."""

    def __init__(self, keys: DataKeys, blobs: int) -> None:
        """`blobs` are to be opened, about."""
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: IO[bytes] | None = None
        self._waiting: deque[tuple[Run, bool]] = deque()  # and whether an answer to it will come
        self._under_way = 0
        if fcntl is not None and blobs >= _WORTH_IT and processors() > 1 and sys.executable:
            with contextlib.suppress(OSError):
                self._start(keys)

    def _start(self, keys: DataKeys) -> None:
        answers, theirs = os.pipe()  # not standard output, to which whatever starts with Python may write
        self._answers = os.fdopen(answers, "rb", buffering=0)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM.format(answers=theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs,),
                process_group=0,  # a terminal's signals are for us
                bufsize=0,
            )
        finally:
            os.close(theirs)
        with contextlib.suppress(OSError, AttributeError):  # more than the usual size may not be allowed
            fcntl.fcntl(cast("IO[bytes]", self._process.stdin), fcntl.F_SETPIPE_SZ, _PIPE)
        self._send(_KEYS.pack(keys.encrypt, keys.mac_k, keys.mac_r))

    def opened(self, runs: Iterable[Run]) -> Iterator[tuple[Run, bool]]:
        """Each of the runs, and whether all of it is known to open."""
        for run in runs:
            self._submit(run)
            while self._under_way > _UNDER_WAY:
                yield self._take()
        while self._waiting:
            yield self._take()

    def _submit(self, run: Run) -> None:
        is_asked = False
        if self._process is not None and len(run.body) <= _SMALL * len(run.entries):
            table = IndexedPack.of(b"", (entry for _, entry in run.entries)).table
            is_asked = self._send(_JOB.pack(run.start, len(table), len(run.body)), table, run.body)
        self._waiting.append((run, is_asked))
        self._under_way += len(run.body)

    def _take(self) -> tuple[Run, bool]:
        run, is_asked = self._waiting.popleft()
        self._under_way -= len(run.body)
        return run, is_asked and self._answers is not None and self._answers.read(1) == _ALL_OPEN

    def _send(self, *parts: bytes | bytearray | memoryview) -> bool:
        """Whether the process took them all; else it is no more."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[self._process.stdin.write(rest) :]
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """End the process; what it was asked is not known."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                cast("IO[bytes]", process.stdin).close()
            process.wait()
        if self._answers is not None:
            self._answers.close()
            self._answers = None


def main(answers: int) -> None:
    """What the process does: it ends when its standard input does. That a prune is interrupted is not for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # there are no cycles here
    asked = sys.stdin.buffer
    keys = DataKeys(*_KEYS.unpack(asked.read(_KEYS.size)))
    while len(head := asked.read(_JOB.size)) == _JOB.size:
        start, table_bytes, body_bytes = _JOB.unpack(head)
        table, body = asked.read(table_bytes), memoryview(asked.read(body_bytes))
        os.write(answers, _ALL_OPEN if _open_all(keys, start, table, body) else _NOT_ALL)


def _open_all(keys: DataKeys, start: int, table: bytes, body: memoryview) -> bool:
    try:
        for entry in iterate_entries(table):
            at = entry.offset - start
            open_blob(keys, entry, body[at : at + entry.length])
    except OortError:
        return False
    return True
