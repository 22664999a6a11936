"""Blobs on their way from one vault to another, in one session.

Kept true: plaintext is in memory alone, some MB of it at a time; when a part of them is copied, all of it lies in packs
that an acknowledged index file lists, and no thread is left.
"""

import threading
from collections.abc import Callable, Sequence
from random import Random

from client.backup.packing import Packer
from client.backup.request import Counters, NoProgress
from client.backup.upload import MeteredSession, Uploader
from client.copying.needed import Batch, Needed
from client.flow import ByteQueue, Crew
from client.platforms.linux import processors
from client.reachability.reading import Opened, Unreadable, read_entries
from client.vault.blobs import SealedBlob
from client.vault.repository import Vault
from client.vault.sealing import COMPRESSED_VERSION, seal_again, seal_batch

_MOST_WORKERS = 4


class BlobCopier:
    """Takes what is needed of `source` to `target`. `new_bytes` and `stored_bytes` are what the target did not have."""

    def __init__(self, source: Vault, target: Vault, session: MeteredSession, *, locked: bool, random: Random) -> None:
        self._source = source
        self._target = target
        self._session = session
        self._crew = Crew()
        self._uploader = Uploader(self._crew, target, session, locked=locked)
        self._counters = Counters(NoProgress(), session.uploaded)
        self._packer = Packer(target, self._uploader, self._counters, random)
        self._lock = threading.Lock()
        self._is_whole = True

    @property
    def new_bytes(self) -> int:
        return self._counters.values.get("new_bytes", 0)

    @property
    def stored_bytes(self) -> int:
        return self._counters.values.get("stored_bytes", 0)

    def copy(self, need: Needed, advanced: Callable[[int], None]) -> bool:
        """Store all batches; False if a blob is lost, which `need` is told. Raises StoreError; then it is of no use.

        `advanced` is told the plain bytes that are done, by one thread at a time.
        """
        self._is_whole = True
        done = 0

        def work() -> None:
            nonlocal done
            while (batch := queue.get()) is not None:
                self._copy(need, batch)
                with self._lock:
                    done += batch.size
                    advanced(done)

        workers = min(_MOST_WORKERS, max(2, processors()))
        queue: ByteQueue[Batch] = ByteQueue(self._crew, workers)
        try:
            self._uploader.start()
            threads = [self._crew.start(f"copy-{at}", work) for at in range(workers)]
            for batch in need.batches():
                queue.put(batch, 1)
            queue.close()
            self._crew.wait(threads)
            self._packer.finish()
            self._uploader.close()
            self._crew.wait()
        except BaseException as error:  # noqa: BLE001 - raised again below, when all threads have ended
            self._crew.fail(error)
            # A thread that waits for a store is woken by closing the session under it.
            self._crew.end(self._session.close, self._source.session.close)
        self._crew.check()
        self._uploader.list_rest()
        return self._is_whole

    def _copy(self, need: Needed, batch: Batch) -> None:
        kind = batch.blobs[0][1].kind

        def seal(positions: Sequence[int]) -> list[SealedBlob]:
            chosen = [batch.blobs[at] for at in positions]
            opened = (self._sealed(need, one) for one in read_entries(self._source, batch.pack, chosen))
            return [sealed for sealed in opened if sealed is not None]

        self._packer.store_hashed(kind, [entry.id for _, entry in batch.blobs], seal)

    def _sealed(self, need: Needed, found: Opened) -> SealedBlob | None:
        """A blob for the target; None if it cannot be had."""
        source, target = self._source, self._target
        entry, plaintext = found.entry, found.plaintext
        if isinstance(plaintext, Unreadable):
            source.doubts.add(need.pack(found.number))
            elsewhere = need.elsewhere(found.number)
            if elsewhere is not None:
                return self._sealed(need, elsewhere)
            need.lose(found.number, f"{entry.kind} blob {entry.id.hex()}: {plaintext.reason}")
            self._is_whole = False
            return None
        version = target.config.version
        if source.config.version < COMPRESSED_VERSION <= version:
            return seal_batch(target.keys, entry.kind, [plaintext], ids=[entry.id], version=version)[0]
        return seal_again(target.keys, entry, found.sealed, plaintext, of=source.keys, version=version)
