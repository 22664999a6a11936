"""A backup, from paths to a committed snapshot.

Kept true: packs are acknowledged before the index files that list them, and these before the snapshot; if anything
could not be stored, no snapshot is committed; whatever ends a backup, its threads have ended when it returns.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random, SystemRandom

from client.backup.known import KnownTrees, NoKnownTrees, VaultTrees
from client.backup.memo import NoMemo, memo_of
from client.backup.packing import Packer
from client.backup.read import Reader
from client.backup.request import BackupRequest, BackupSummary, Counters, NoProgress, Progress
from client.backup.scan import Scanner
from client.backup.selection import Selector
from client.backup.stream import StreamReader
from client.backup.targets import absolute_paths, links_among
from client.backup.trees import TreeWriter
from client.backup.upload import MeteredSession, Uploader
from client.errors import DamagedVault, NothingLeft, ObjectMissing, UsageError
from client.flow import Crew
from client.platforms.linux import give_back_large_buffers, processors
from client.stores.abc import StoreSession
from client.vault.blobs import ID_BYTES, BlobId
from client.vault.chunker import Chunker, chunker_seed
from client.vault.pack_contents import still_damaged
from client.vault.repository import Vault, reason_unread
from client.vault.sealing import Compression
from client.vault.snapshots import Snapshot, encode_snapshot, paths_text
from client.vault.times import time_in_ns
from domain.names import ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES

_MOST_WORKERS = 4  # each may be a process, which takes some 19 MB, and 18 MB of shared memory
_TREE_DIGITS = 128  # by which a snapshot may grow when its tree is known
_ONLY_A_LINK = "is a symbolic link: only the link is stored; give {link}/ or its target"


@dataclass(frozen=True, slots=True)
class Machinery:
    """How a backup is worked on: by how many threads, compressing how; what else it takes from its surroundings."""

    workers: int = min(_MOST_WORKERS, max(2, processors()))
    readers: int = 1  # big files read at once
    compression: Compression = Compression.AUTO
    monotonic: Callable[[], float] = time.monotonic
    random: Random | None = None


def backup(
    vault: Vault,
    session: StoreSession,
    request: BackupRequest,
    progress: Progress | None = None,
    machinery: Machinery | None = None,
    *,
    locked: bool = False,
    ensure_locked: Callable[[], None] = lambda: None,
) -> BackupSummary:
    """Back up the paths of `request` into `vault`, whose `session` was opened with the request's parent pinned.

    `locked` says that the vault's lock file is held, as stores need that do not keep sessions apart; `ensure_locked`
    raises LockLost when it was lost, and is asked before anything is stored.

    Files that cannot be read are warnings. Raises UsageError for a path that does not exist or a pattern that is none,
    before anything is stored; StoreError and its kinds if something cannot be stored, StreamIncomplete if a stream
    failed, and then nothing is committed.
    """
    metered = MeteredSession(session, vault, ensure_locked)
    return _Backup(vault, metered, request, progress or NoProgress(), machinery or Machinery(), locked=locked).run()


class _Backup:
    """The parts of one backup, wired together."""

    def __init__(
        self,
        vault: Vault,
        session: MeteredSession,
        request: BackupRequest,
        progress: Progress,
        machinery: Machinery,
        *,
        locked: bool,
    ) -> None:
        self._vault = vault
        self._session = session
        self._request = request
        self._selector = Selector(request.selection)
        self._machinery = machinery
        self._crew = Crew()
        self._counters = Counters(progress, self._session.uploaded, machinery.monotonic)
        self._uploader = Uploader(self._crew, vault, self._session, locked=locked)
        random = machinery.random or SystemRandom()
        self._packer = Packer(vault, self._uploader, self._counters, random, machinery.compression)
        self._memo = memo_of(vault, self._counters.note) if request.stream is None else NoMemo()
        self._trees = TreeWriter(self._packer, self._memo)
        chunker = Chunker(chunker_seed(vault.keys))
        self._reader = Reader(self._crew, self._packer, self._trees, chunker, self._counters)

    def run(self) -> BackupSummary:
        try:
            return self._run()
        finally:
            self._memo.close()

    def _run(self) -> BackupSummary:
        started = self._machinery.monotonic()
        give_back_large_buffers()  # for callers of the engine alone, too
        paths = self._request.paths if self._request.stream else absolute_paths(self._request.paths)
        for link in () if self._request.stream else links_among(paths):
            self._counters.warn(link, _ONLY_A_LINK.format(link=os.fsdecode(link)))
        for damage in self._request.warnings:
            self._counters.warn(damage.path, damage.reason)
        for name, error in self._vault.index.damaged.items():
            # What is listed nowhere else is stored again; nothing that is stored is lost by that.
            self._counters.warn(str(name).encode(), f"cannot be read: {reason_unread(error)}")
        self._ensure_fits(paths)
        # As if the vault did not have what was found damaged: what is still here of it is stored again.
        self._vault.index.leave_out(still_damaged(self._vault) | self._request.lost)
        known_tree = self._parent_tree()
        self._work(paths, known_tree)
        tree = self._trees.root
        if tree is None:
            raise AssertionError("the root folder was not finished")
        if not self._trees.kept:
            raise NothingLeft(paths=paths_text(list(map(os.fsdecode, paths))))
        self._uploader.list_rest()
        snapshot = self._commit(paths, tree)
        self._counters.scanned = True
        tally = self._counters.report()
        return BackupSummary(
            snapshot=snapshot,
            parent=self._request.parent,
            tree=tree.hex(),
            files_new=tally.files_new,
            files_changed=tally.files_changed,
            files_unmodified=tally.files_unmodified,
            dirs=tally.dirs,
            total_files=tally.total_files,
            total_bytes=tally.total_bytes,
            new_bytes=tally.new_bytes,
            stored_bytes=tally.stored_bytes,
            uploaded_bytes=self._session.uploaded(),
            seconds=self._machinery.monotonic() - started,
            warnings=tuple(self._counters.warnings),
            warned=self._counters.warned,
        )

    def _work(self, paths: tuple[bytes, ...], known_tree: BlobId | None) -> None:
        """Scan, read and store everything; when it returns all packs are acknowledged and no thread is left."""
        try:
            self._uploader.start()
            self._reader.start(self._machinery.workers, self._machinery.readers)
            self._scan(paths, known_tree)
            self._counters.scanned = True
            self._reader.close()
            self._reader.wait()
            self._trees.flush()
            self._packer.finish()
            self._uploader.close()
            self._crew.wait()
        except BaseException as error:  # noqa: BLE001 - raised again below, when all threads have ended
            self._crew.fail(error)
            # A thread that waits for the store is woken by closing the session under it.
            self._crew.end(self._break_off)
        finally:
            self._reader.end()
        self._crew.check()

    def _break_off(self) -> None:
        """Wake the threads that wait for something outside: their calls fail."""
        self._reader.end()
        self._session.close()

    def _scan(self, paths: tuple[bytes, ...], known_tree: BlobId | None) -> None:
        """Hand everything to the reader, in this thread."""
        known: KnownTrees = VaultTrees(self._vault, self._packer.distrust_trees) if known_tree else NoKnownTrees()
        request, trees, counters, ensure_running = self._request, self._trees, self._counters, self._crew.ensure_running
        if request.stream is not None:
            time_ns, owner = time_in_ns(request.time), (request.uid, request.gid)
            stream = StreamReader(trees, known, counters, self._reader, ensure_running, time_ns=time_ns, owner=owner)
            stream.scan(paths[0], request.stream, known_tree)
            return
        scanner = Scanner(
            trees,
            known,
            counters,
            self._reader.take,
            ensure_running,
            memo=self._memo,
            selector=self._selector,
            excluded=request.excluded,
        )
        scanner.scan(paths, known_tree)

    def _parent_tree(self) -> BlobId | None:
        parent = self._request.parent
        if parent is None:
            return None
        try:
            return self._vault.load_snapshot(parent).tree
        except (DamagedVault, ObjectMissing):
            return None

    def _ensure_fits(self, paths: tuple[bytes, ...]) -> None:
        """Find out now, and not when all is stored, whether a snapshot can name so many paths."""
        _, body = self._sealed(paths, BlobId(ID_BYTES))
        if len(body) > MAX_SNAPSHOT_BYTES - _TREE_DIGITS:
            raise UsageError(
                detail=f"{len(paths):,} paths, with the patterns, are more than a snapshot can name "
                f"({MAX_SNAPSHOT_BYTES >> 20} MiB, compressed): give folders that hold them, and leave out the rest"
            )

    def _commit(self, paths: tuple[bytes, ...], tree: BlobId) -> ObjectName:
        name, body = self._sealed(paths, tree)
        self._session.commit(name, body)
        return name

    def _sealed(self, paths: tuple[bytes, ...], tree: BlobId) -> tuple[ObjectName, bytes]:
        """Name and body of the snapshot."""
        request = self._request
        snapshot = Snapshot(
            time_ns=time_in_ns(request.time),
            tree=tree,
            paths=tuple(map(os.fsdecode, paths)),
            hostname=request.hostname,
            username=request.username,
            uid=request.uid,
            gid=request.gid,
            excludes=request.selection.excludes,
            tags=request.tags,
            parent=request.parent.id if request.parent else None,
        )
        return self._vault.seal_unpacked(ObjectKind.SNAPSHOT, encode_snapshot(snapshot))
