"""Packs on their way to the store, and the index files that make them count.

Kept true: an index file lists only packs that the store has acknowledged, or has reserved for this session, each in
full; a snapshot is committed after the last of them. So a backup that is killed loses at most what no index file
lists, and that is bounded: packs under way and packs not yet listed have a limit of bytes together.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from client.flow import ByteQueue, Crew
from client.platforms.linux import give_back_free_memory
from client.stores.abc import StoreSession
from client.vault.blobs import BlobKind, Buffer
from client.vault.index import IndexWriter
from client.vault.packs import MAX_BLOBS, PackBuilder
from client.vault.repository import Vault
from domain.names import ObjectKind, ObjectName

if TYPE_CHECKING:
    from client.vault.index_files import IndexedPack

UPLOADS = 2  # packs in flight: one is sent while the other is synced; each costs its size in memory
_CHECKPOINT = 24 << 20  # bytes in packs that no index file lists yet
_CHECKPOINT_SHARE = 64  # or this part of all that was sent: the number of index files grows with the logarithm
CHECKPOINT_BLOBS = 2 * MAX_BLOBS  # or so many blobs, each of which is 200 bytes in memory until it is listed
_UNDER_WAY = 36 << 20  # above the checkpoint: what may be in flight while an index file is written


class MeteredSession:
    """Counts the bytes handed to a session, and hands over nothing once the vault's lock is lost.

    `ensure_locked` raises LockLost. A session that may have to send bytes again (after a node failed) counts for
    itself, in `sent_bytes`.
    """

    def __init__(self, session: StoreSession, vault: Vault, ensure_locked: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._vault = vault
        self._ensure_locked = ensure_locked
        self._own = 0
        self._before = self._sent() or 0
        self._lock = threading.Lock()

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> None:
        self._ensure_locked()
        with self._lock:
            self._own += len(body)
        self._session.put(name, body, packs)

    def commit(self, snapshot: ObjectName, body: bytes) -> None:
        self._ensure_locked()
        with self._lock:
            self._own += len(body)
        self._session.commit(snapshot, body)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self._session.reserve(packs)

    def save_unpacked(self, kind: ObjectKind, plaintext: bytes, packs: Sequence[ObjectName] = ()) -> ObjectName:
        name, body = self._vault.seal_unpacked(kind, plaintext)
        self.put(name, body, packs)
        return name

    def close(self) -> None:
        self._session.close()

    def uploaded(self) -> int:
        """Bytes that left for the store since this object was made."""
        sent = self._sent()
        return self._own if sent is None else sent - self._before

    def _sent(self) -> int | None:
        sent = getattr(self._session, "sent_bytes", None)
        return sent if isinstance(sent, int) else None


class Uploader:
    """Finishes packs, sends them by several threads, and writes index files at checkpoints."""

    def __init__(self, crew: Crew, vault: Vault, session: MeteredSession, *, locked: bool, share: int = 1) -> None:
        """`locked`: the vault's lock file keeps packs from removal, so those reserved need no listing.

        Where so many vaults are stored in at once, each holds a `share`-th of the blobs that no index file lists.
        """
        self._share = share
        self._crew = crew
        self._locked = locked
        self._vault = vault
        self._session = session
        self._changed = crew.condition()
        self._writer = IndexWriter(vault.index, session)
        self._writing = threading.Lock()
        self._full = 0  # packs handed over that are still in memory
        self._under_way = 0  # bytes of packs that are not acknowledged
        self._acknowledged = 0  # bytes of packs in the writer
        self._listable = 0  # and blobs
        self._at_risk = 0  # and of those whose index file is not acknowledged
        self._sent = 0
        self._queue: ByteQueue[PackBuilder] = ByteQueue(crew, UPLOADS)
        self._own: set[ObjectName] = set()
        self._reserved: set[ObjectName] = set()
        self._gone: set[ObjectName] = set()
        self.on_indexed: Callable[[BlobKind, IndexedPack], None] = lambda _kind, _pack: None

    def start(self) -> None:
        """Begin to send; also once more, when all that was handed over before was sent and the threads have ended."""
        self._queue = ByteQueue(self._crew, UPLOADS)
        for number in range(UPLOADS):
            self._crew.start(f"upload-{number}", self._work)

    def submit(self, builder: PackBuilder) -> None:
        """Hand over a full pack; waits while as many are in memory as can be sent at once. Raises Stopped."""
        with self._changed:
            self._crew.wait_until(self._changed, lambda: self._full < UPLOADS)
            self._full += 1
        self._queue.put(builder, 1)

    def close(self) -> None:
        """No more packs come: the threads end when all are sent."""
        self._queue.close()

    def drop(self) -> None:
        """Hold nothing any more: packs that were handed over are not sent. Called when all threads have ended."""
        self._queue = ByteQueue(self._crew, UPLOADS)
        self._writer = IndexWriter(self._vault.index, self._session)

    def holds(self, pack: ObjectName) -> bool:
        """Whether this session made or reserved the pack."""
        return pack in self._own or pack in self._reserved

    def is_gone(self, pack: ObjectName) -> bool:
        """Whether the store has said that a pack of the index is lost."""
        return pack in self._gone

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """Keep packs from removal while this session commits; answers those that are gone."""
        gone = self._session.reserve(packs)
        with self._changed:
            self._gone |= gone
            for pack in packs:
                if pack not in gone and pack not in self._reserved:
                    self._reserved.add(pack)
                    if not self._locked:
                        self._writer.add_reserved(pack)
        return gone

    def list_rest(self) -> None:
        """Store the last index files, if anything is not listed yet. Called when all threads have ended."""
        self._write_index()

    def _work(self) -> None:
        while (builder := self._queue.get()) is not None:
            kind = builder.kind
            pack, body = builder.finish()
            size = len(body)
            self._wait_for_room(size)
            self._session.put(pack.name, body)
            del builder, body
            give_back_free_memory()
            with self._changed:
                self._full -= 1
                self._under_way -= size
                self._sent += size
                self._acknowledged += size
                self._at_risk += size
                self._own.add(pack.name)
                self._writer.add_pack(pack)
                self._listable += len(pack)
                due = self._is_due()
                self._changed.notify_all()
            self.on_indexed(kind, pack)
            del pack
            if due:
                self._write_index()

    def _is_due(self) -> bool:
        """Whether what is in the writer makes an index file."""
        return self._acknowledged >= self._threshold() or self._listable >= CHECKPOINT_BLOBS // self._share

    def _threshold(self) -> int:
        return max(_CHECKPOINT, self._sent // _CHECKPOINT_SHARE)

    def _wait_for_room(self, size: int) -> None:
        """Wait until a pack of `size` bytes may go without putting more at risk than the limit."""

        def has_room() -> bool:
            if self._under_way + self._at_risk + size <= self._threshold() + _UNDER_WAY:
                return True
            listing = self._at_risk > self._acknowledged or self._is_due()
            return not (self._under_way or listing)  # a pack larger than the limit, with nothing to wait for

        with self._changed:
            self._crew.wait_until(self._changed, has_room)
            self._under_way += size

    def _write_index(self) -> None:
        """List all that is acknowledged or reserved and in no index file of this session yet."""
        with self._writing:
            with self._changed:
                writer, self._writer = self._writer, IndexWriter(self._vault.index, self._session)
                size, self._acknowledged, self._listable = self._acknowledged, 0, 0
            writer.flush()
            with self._changed:
                self._at_risk -= size
                self._changed.notify_all()
