"""Worker processes of a backup.

Kept true: a backup does without them where none can be started, or only of another version of the program; once one
has a task, its end is an error of the backup, which then makes no snapshot. Sealed bodies and chunks of large files lie
in memory that is shared with them.
"""

import mmap
import os
from collections.abc import Sequence
from typing import cast

from client.backup.small_files import MAX_READ, Batch, Wanted
from client.backup.worker import Answer, Damage, Hash, Message, Read, Seal, Sealed, Sealing, Setting, Span
from client.errors import DamagedVault, WorkerLost
from client.platforms.linux import shared_memory
from client.vault.blobs import BlobId, BlobKind, SealedBlob
from client.vault.chunker import MAX_CHUNK
from client.worker_process import ProcessLost, WorkerProcess, start_process

_PROGRAM = "from client.backup.worker import main; main()"
_ROOM = max(MAX_READ, 2 * MAX_CHUNK)  # sealed bytes of one task; what is not used takes no memory
_KEPT_ROOM = 4 << 20  # all that nearly any task needs: 2 MiB or more, and the rest of a last chunk


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


def start_worker(sealing: Sealing, memory: ChunkMemory) -> "ProcessWorker | None":
    """Start a process; None if that cannot be, or one processor is all there is."""
    if memory.descriptor is None:
        return None
    vaults = [(keys.encrypt, keys.mac_k, keys.mac_r, version) for keys, version in sealing.vaults]
    setting = Setting(vaults, sealing.compression, sealing.seed, memory.descriptor)
    process = start_process(_PROGRAM, setting, room=_ROOM, given=memory.descriptor)
    return None if process is None else ProcessWorker(process)


class ProcessWorker:
    """A worker that is a process. For one thread, but for `close`."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._used = 0  # bytes of the room since some were given back

    def is_ready(self) -> bool:
        """Whether it takes tasks: it takes a moment to start. Raises ProcessLost if it never will."""
        return self._process.is_ready()

    def read(self, files: Sequence[Wanted]) -> Batch:
        return cast("Batch", self._ask(Read(files)))

    def hash(self, spans: Sequence[Span]) -> list[BlobId]:
        return cast("list[BlobId]", self._ask(Hash(spans)))

    def seal(self, vault: int, ids: Sequence[BlobId], positions: Sequence[int]) -> list[SealedBlob]:
        sealed: list[SealedBlob] = []
        start = 0
        answer = cast("Sealed", self._ask(Seal(vault, positions)))
        for at, (length_plain, compressed, length) in zip(positions, answer, strict=True):
            body = self._process.room[start : start + length]
            sealed.append(SealedBlob(ids[at], BlobKind.DATA, length_plain, compressed, body))
            start += length
        self._used = max(self._used, start)
        return sealed

    def close(self) -> None:
        """End it, whatever it does: nothing that it holds is needed any more."""
        self._process.kill()

    def _ask(self, message: Message) -> Answer:
        """Raises WorkerLost, DamagedVault."""
        if self._used > _KEPT_ROOM:
            self._process.give_back_room(_KEPT_ROOM)
            self._used = 0
        try:
            answer = cast("Answer", self._process.ask(message))
        except ProcessLost as error:
            raise WorkerLost(reason=error) from None
        if isinstance(answer, Damage):
            raise DamagedVault(name=answer.name, detail=answer.detail)
        return answer
