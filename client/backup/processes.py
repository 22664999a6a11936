"""Worker processes of a backup, so that one interpreter's lock does not keep a processor idle.

Kept true: a backup does without them where none can be started, or only of another version of the program; once one
has a task, its end is an error of the backup, which then makes no snapshot. None outlives the backup: each is killed
when it is closed, and ends by itself when this process does. Sealed bodies and chunks of large files lie in memory that
is shared with them.
"""

import contextlib
import errno
import mmap
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, cast

from client.backup.small_files import MAX_READ, Batch, Wanted
from client.backup.worker import (
    Answer,
    Damage,
    Failure,
    Hash,
    Message,
    Read,
    Ready,
    Seal,
    Sealed,
    Sealing,
    Setting,
    Span,
)
from client.errors import DamagedVault, WorkerLost
from client.platforms.linux import processors, shared_memory
from client.vault.blobs import BlobId, BlobKind, SealedBlob
from client.vault.chunker import MAX_CHUNK
from client.version import VERSION

_PROGRAM = "from client.backup.worker import main; main()"
_END_SECONDS = 2.0  # in which a process that answers no more has ended
_OF_ANOTHER_VERSION = (AttributeError, ImportError, TypeError, ValueError)  # where an answer has another shape
_ROOM = max(MAX_READ, 2 * MAX_CHUNK)  # sealed bytes of one task; what is not used takes no memory


class ChunkMemory:
    """`size` bytes for chunks of large files, which processes can have too, where the system can do that."""

    def __init__(self, size: int) -> None:
        self.descriptor: int | None = None
        try:
            self.descriptor = shared_memory(size)
            self.view = memoryview(mmap.mmap(self.descriptor, size))
        except OSError:
            self.close()
            self.view = memoryview(bytearray(size))

    def close(self) -> None:
        """No process can have it any more."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def start_process(sealing: Sealing, memory: ChunkMemory) -> "ProcessWorker | None":
    """Start one; None if that cannot be, or one processor is all there is."""
    if memory.descriptor is None or processors() == 1 or getattr(sys, "frozen", False) or not sys.executable:
        return None
    with contextlib.suppress(OSError):
        return ProcessWorker(sealing, memory.descriptor)
    return None


class ProcessWorker:
    """A worker that is a process. For one thread, but for `close`."""

    def __init__(self, sealing: Sealing, memory: int) -> None:
        """Start it. Raises OSError."""
        self._ready = False
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            room = shared_memory(_ROOM)
            theirs.callback(os.close, room)
            reading, answers = os.pipe()  # not standard output, to which whatever starts with Python may write
            theirs.callback(os.close, answers)
            self._answers = ours.enter_context(os.fdopen(reading, "rb"))
            self._room = memoryview(mmap.mmap(room, _ROOM))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(memory, room, answers),
                process_group=0,  # a terminal's signals are for us
            )
            ours.pop_all()
        self._coming = select.poll()
        self._coming.register(self._answers, select.POLLIN)
        self._messages = cast("IO[bytes]", self._process.stdin)
        keys = sealing.keys
        with contextlib.suppress(OSError):  # it is no more, which shows when it is not ready
            self._send(
                Setting(
                    VERSION,
                    *(keys.encrypt, keys.mac_k, keys.mac_r, sealing.version, sealing.compression),
                    *(memory, room, answers),
                )
            )

    def is_ready(self) -> bool:
        """Whether it takes tasks: it takes a moment to start. Raises OSError if it never will."""
        if not self._ready and self._coming.poll(0):
            try:
                self._ready = self._receive() == Ready(VERSION)
            except (WorkerLost, *_OF_ANOTHER_VERSION) as error:
                raise OSError(errno.ECHILD, str(error)) from None
            if not self._ready:
                raise OSError(errno.ECHILD, "it cannot start")
        return self._ready

    def read(self, files: Sequence[Wanted]) -> Batch:
        return cast("Batch", self._ask(Read(files)))

    def hash(self, spans: Sequence[Span]) -> list[BlobId]:
        return cast("list[BlobId]", self._ask(Hash(spans)))

    def seal(self, ids: Sequence[BlobId], positions: Sequence[int]) -> list[SealedBlob]:
        sealed: list[SealedBlob] = []
        start = 0
        answer = cast("Sealed", self._ask(Seal(positions)))
        for at, (length_plain, compressed, length) in zip(positions, answer, strict=True):
            body = self._room[start : start + length]
            sealed.append(SealedBlob(ids[at], BlobKind.DATA, length_plain, compressed, body))
            start += length
        return sealed

    def close(self) -> None:
        """End it, whatever it does: nothing that it holds is needed any more."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._messages.close()
        self._answers.close()

    def _ask(self, message: Message) -> Answer:
        """Raises WorkerLost, DamagedVault."""
        try:
            self._send(message)
        except OSError:
            raise self._lost() from None
        answer = self._receive()
        if isinstance(answer, Damage):
            raise DamagedVault(name=answer.name, detail=answer.detail)
        return answer

    def _send(self, message: Setting | Message) -> None:
        pickle.dump(message, self._messages, pickle.HIGHEST_PROTOCOL)
        self._messages.flush()

    def _receive(self) -> Answer:
        try:
            answer = cast("Answer", pickle.load(self._answers))  # noqa: S301 - of a process that we started
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._lost() from None
        if isinstance(answer, Failure):
            raise WorkerLost(reason=f"failed ({answer.what})")
        return answer

    def _lost(self) -> WorkerLost:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return WorkerLost(reason=f"was ended by signal {-code}" if code < 0 else f"ended with {code}")
