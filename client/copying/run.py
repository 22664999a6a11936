"""Snapshots copied from one vault into another, which seals by keys and compresses by a version of its own.

Kept true: plaintext is in memory alone, some MB of it at a time; of what the target holds nothing is read; packs are
acknowledged before the index files that list them, and these before any snapshot; a snapshot of which anything is lost
is not copied, and named; whatever ends a copy, the next one goes on with what it has stored.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random, SystemRandom

from client.backup.packing import Packer
from client.backup.request import Counters, NoProgress
from client.backup.upload import MeteredSession, Uploader
from client.copying.documents import Copies, Parents
from client.copying.needed import Batch, Needed, needed
from client.errors import DamagedVault, ObjectMissing
from client.flow import ByteQueue, Crew
from client.platforms.linux import give_back_large_buffers, processors
from client.reachability.findings import Progress
from client.reachability.reading import Opened, Unreadable, read_entries
from client.vault.blobs import SealedBlob
from client.vault.pack_contents import still_damaged
from client.vault.repository import Vault, reason_unread
from client.vault.sealing import COMPRESSED_VERSION, seal_again, seal_batch
from client.vault.snapshots import Snapshot, newest_first
from domain.names import ObjectName

_MOST_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Copied:
    """A snapshot and the id of its copy."""

    snapshot: Snapshot
    copy: str


@dataclass(slots=True)
class CopySummary:
    """What came of a copy. `present` had copies already; `lost` are those that cannot be copied, by id, and why.

    All sizes in bytes: the plain and the sealed size of the blobs that the target did not have, and all that was sent.
    """

    copied: list[Copied] = field(default_factory=list)
    present: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    new_bytes: int = 0
    stored_bytes: int = 0
    uploaded_bytes: int = 0


def copy_snapshots(
    source: Vault,
    target: Vault,
    wanted: Sequence[Snapshot],
    *,
    lost: frozenset[ObjectName] = frozenset(),
    locked: bool = False,
    ensure_locked: Callable[[], None] = lambda: None,
    progress: Progress = lambda *_: None,
    random: Random | None = None,
) -> CopySummary:
    """Copy the snapshots `wanted`, or all that `target` does not have of them, in a session of Purpose.BACKUP.

    `locked` says that the target's lock file is held, as stores need that do not keep sessions apart; `ensure_locked`
    raises LockLost when it was lost. Packs that are `lost` in the target count as missing there. Raises StoreError and
    its kinds, after which the same copy goes on; HomeFull, HomeUnusable where temporary files find no room.
    """
    give_back_large_buffers()
    here = target.snapshots(lambda *_: None)
    copies, summary = Copies(here), CopySummary()
    oldest_first = newest_first(wanted)[::-1]
    missing = [snapshot for snapshot in oldest_first if not copies.has(snapshot)]
    summary.present = len(oldest_first) - len(missing)
    if not missing:
        return summary
    parents = Parents(source.snapshots(lambda *_: None))
    session = MeteredSession(target.session, target, ensure_locked)
    with needed(source, missing, progress) as need:
        copying = _Copying(source, target, session, random or SystemRandom(), progress, locked=locked)
        copying.run(need, lost)
        summary.lost.update(need.lost)
        for snapshot in need.reaching(set(copying.unreadable)):
            summary.lost[snapshot.id] = next(iter(copying.unreadable.values()))
    for snapshot in missing:
        if snapshot.id not in summary.lost:
            name, body = copies.commit(source, target, snapshot, parents)
            session.commit(name, body)
            summary.copied.append(Copied(snapshot, name.id))
    summary.new_bytes = copying.counters.values.get("new_bytes", 0)
    summary.stored_bytes = copying.counters.values.get("stored_bytes", 0)
    summary.uploaded_bytes = session.uploaded()
    return summary


class _Copying:
    """Blobs on their way; `unreadable` are places in the source of which none that holds the blob opens, and why."""

    def __init__(
        self,
        source: Vault,
        target: Vault,
        session: MeteredSession,
        random: Random,
        progress: Progress,
        *,
        locked: bool,
    ) -> None:
        self._source = source
        self._target = target
        self._session = session
        self._progress = progress
        self._crew = Crew()
        self._uploader = Uploader(self._crew, target, session, locked=locked)
        self.counters = Counters(NoProgress(), session.uploaded)
        self._packer = Packer(target, self._uploader, self.counters, random)
        self._lock = threading.Lock()
        self._done = 0
        self.unreadable: dict[int, str] = {}

    def run(self, need: Needed, lost: frozenset[ObjectName]) -> None:
        """Store all that is needed; when it returns all of it is listed, and no thread is left."""
        self._target.index.leave_out(still_damaged(self._target) | lost)
        workers = min(_MOST_WORKERS, max(2, processors()))
        queue: ByteQueue[Batch] = ByteQueue(self._crew, workers)
        try:
            self._uploader.start()
            threads = [self._crew.start(f"copy-{at}", lambda: self._work(queue, need.blobs)) for at in range(workers)]
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

    def _work(self, queue: ByteQueue[Batch], total: int) -> None:
        while (batch := queue.get()) is not None:
            self._copy(batch)
            with self._lock:
                self._done += len(batch.blobs)
                self._progress("blobs", self._done, total)

    def _copy(self, batch: Batch) -> None:
        kind = batch.blobs[0][1].kind

        def seal(positions: Sequence[int]) -> list[SealedBlob]:
            chosen = [batch.blobs[at] for at in positions]
            opened = (self._sealed(one) for one in read_entries(self._source, batch.pack, chosen))
            return [sealed for sealed in opened if sealed is not None]

        self._packer.store_hashed(kind, [entry.id for _, entry in batch.blobs], seal)

    def _sealed(self, opened: Opened) -> SealedBlob | None:
        """A blob for the target; None if it cannot be had."""
        source, target = self._source, self._target
        entry, version, plaintext = opened.entry, target.config.version, opened.plaintext
        if isinstance(plaintext, Unreadable):
            try:
                found = source.load_blob(entry.kind, entry.id)  # another pack may hold it whole
            except (DamagedVault, ObjectMissing) as error:
                self._give_up(opened.number, f"{entry.kind} blob {entry.id.hex()}: {reason_unread(error)}")
                return None
            return seal_batch(target.keys, entry.kind, [found], ids=[entry.id], version=version)[0]
        if source.config.version < COMPRESSED_VERSION <= version:
            return seal_batch(target.keys, entry.kind, [plaintext], ids=[entry.id], version=version)[0]
        return seal_again(target.keys, entry, opened.sealed, plaintext, of=source.keys, version=version)

    def _give_up(self, place: int, why: str) -> None:
        with self._lock:
            self.unreadable[place] = why
