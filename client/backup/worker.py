"""Who reads small files, hashes, compresses, seals and opens again: in a thread of the backup, or a process beside it.

Kept true: what was read or hashed stays in hand until the next task, so what turns out to be new is sealed as it was
hashed, and for several vaults as it was compressed for the first.
"""

import gc
import mmap
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from client.backup.small_files import Batch, Wanted, read_batch
from client.errors import DamagedVault
from client.vault.blobs import BlobId, BlobKind, Buffer, SealedBlob, blob_id
from client.vault.chunker import Chunker
from client.vault.keys import DataKeys
from client.vault.sealing import Compression, Plaintexts
from client.worker_program import answer_messages

_GARBAGE_LOOKS = 100_000  # objects made between two looks for cycles, of which there are next to none

Span = tuple[int, int]  # where in the memory of chunks one begins, and its length


class VaultSealing(NamedTuple):
    """How blobs are sealed for one vault: the data keys, and the repository's version."""

    keys: DataKeys
    version: int


class Sealing(NamedTuple):
    """How blobs are sealed: for which vaults, how to compress, and the seed of the cuts, which is one for all."""

    vaults: Sequence[VaultSealing]
    compression: Compression
    seed: int


class Worker(Protocol):
    """Does one task after another: `read` or `hash`, then perhaps `seal`, once for each vault."""

    def read(self, files: Sequence[Wanted]) -> Batch:
        """Read small files, from the first on, until enough are read."""

    def hash(self, spans: Sequence[Span]) -> list[BlobId]:
        """The ids of chunks that lie in the memory of chunks."""

    def seal(self, vault: int, ids: Sequence[BlobId], positions: Sequence[int]) -> list[SealedBlob]:
        """Seal those chunks of the task at `positions`; `ids` are what `read` or `hash` answered for all of them.

        `vault` is its number. The bodies hold until the next call. Raises DamagedVault.
        """


class OwnWorker:
    """Works in the thread that calls it; for one thread."""

    def __init__(self, sealing: Sealing, chunker: Chunker, memory: memoryview, room: memoryview | None = None) -> None:
        """`memory` is where chunks of large files lie; `room`, if given, where sealed bodies go."""
        self._sealing = sealing
        self._chunker = chunker
        self._memory = memory
        self._room = room
        self._chunks: Sequence[Buffer] = ()
        self._plaintexts: Plaintexts | None = None

    def read(self, files: Sequence[Wanted]) -> Batch:
        self._chunks, self._plaintexts = (), None
        batch, self._chunks = read_batch(files, self._chunker)
        return batch

    def hash(self, spans: Sequence[Span]) -> list[BlobId]:
        self._plaintexts = None
        self._chunks = [self._memory[start : start + length] for start, length in spans]
        return [blob_id(chunk) for chunk in self._chunks]

    def seal(self, vault: int, ids: Sequence[BlobId], positions: Sequence[int]) -> list[SealedBlob]:
        vaults, compression, _ = self._sealing
        plaintexts = self._plaintexts or Plaintexts(BlobKind.DATA, self._chunks, ids, compression, vaults=len(vaults))
        self._chunks = ()
        self._plaintexts = plaintexts if len(vaults) > 1 else None
        keys, version = vaults[vault]
        return plaintexts.seal(keys, positions, version=version, room=self._room)


class Setting(NamedTuple):
    """What all tasks of a process have in common: how to seal, and the descriptor of the chunks' memory.

    `vaults` are as those of a Sealing: the parts of the data keys, and the version.
    """

    vaults: Sequence[tuple[bytes, bytes, bytes, int]]
    compression: Compression
    seed: int
    memory: int


class Read(NamedTuple):
    """Answered with a Batch."""

    files: Sequence[Wanted]


class Hash(NamedTuple):
    """Answered with the ids."""

    spans: Sequence[Span]


class Seal(NamedTuple):
    """Answered with the length before compression, whether it is compressed, and the sealed length of each blob."""

    vault: int
    positions: Sequence[int]


class Damage(NamedTuple):
    """The answer where DamagedVault was raised."""

    name: str
    detail: str


Message = Read | Hash | Seal
Sealed = list[tuple[int, bool, int]]
Answer = Batch | list[BlobId] | Sealed | Damage


class _Answering:
    """Does what messages say."""

    def __init__(self, setting: Setting, room: memoryview) -> None:
        vaults = [VaultSealing(DataKeys(*keys), version) for *keys, version in setting.vaults]
        memory = memoryview(mmap.mmap(setting.memory, 0, access=mmap.ACCESS_READ))
        sealing = Sealing(vaults, setting.compression, setting.seed)
        self._worker = OwnWorker(sealing, Chunker(setting.seed), memory, room)
        self._ids: Sequence[BlobId] = ()

    def answer(self, message: Message) -> Answer:
        try:
            if isinstance(message, Seal):
                sealed = self._worker.seal(message.vault, self._ids, message.positions)
                return [(blob.length_plain, blob.compressed, blob.length_sealed) for blob in sealed]
            if isinstance(message, Hash):
                self._ids = ids = self._worker.hash(message.spans)
                return ids
            batch = self._worker.read(message.files)
            self._ids = batch.ids
        except DamagedVault as error:
            return Damage(str(error.fields["name"]), str(error.fields["detail"]))
        return batch


def main() -> None:
    """Do the tasks of a backup in another process."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_LOOKS)
    answer_messages(lambda setting, room: _Answering(setting, room).answer)
