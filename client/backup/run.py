"""A backup, from paths to a committed snapshot in each of its vaults.

Kept true: packs are acknowledged before the index files that list them, and these before the snapshot; in a vault where
anything could not be stored no snapshot is committed; whatever ends a backup, its threads have ended when it returns.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random, SystemRandom

from client.backup.destinations import Destination, Destinations, NobodyLeft, Target
from client.backup.known import KnownTrees, NoKnownTrees
from client.backup.memo import NoMemo, memo_of
from client.backup.read import Reader
from client.backup.request import BackupRequest, BackupSummary, Counters, NoProgress, Progress, Tally
from client.backup.scan import Scanner
from client.backup.selection import Selector
from client.backup.stream import StreamReader
from client.backup.targets import absolute_paths, links_among
from client.backup.trees import TreeWriter
from client.errors import NothingLeft, OortError, UsageError
from client.flow import Crew
from client.platforms.linux import give_back_large_buffers, processors
from client.vault.blobs import ID_BYTES, BlobId
from client.vault.chunker import Chunker
from client.vault.repository import reason_unread
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
    targets: Sequence[Target],
    request: BackupRequest,
    progress: Progress | None = None,
    machinery: Machinery | None = None,
) -> list[BackupSummary | OortError]:
    """Back up the paths of `request`, read once, into one vault or several; answers what became of each.

    That is an error, a StoreError nearly always, where something could not be stored: then nothing is committed in that
    vault, and the others go on. Files that cannot be read are warnings. Raises UsageError for a path that does not
    exist or a pattern that is none, before anything is stored; StreamIncomplete if a stream failed, and then nothing is
    committed anywhere.
    """
    return _Backup(targets, request, progress or NoProgress(), machinery or Machinery()).run()


class _Backup:
    """The parts of one backup, wired together."""

    def __init__(
        self, targets: Sequence[Target], request: BackupRequest, progress: Progress, machinery: Machinery
    ) -> None:
        self._request = request
        self._selector = Selector(request.selection)
        self._machinery = machinery
        self._crew = Crew()
        self._counters = Counters(progress, self._uploaded, machinery.monotonic)
        random = machinery.random or SystemRandom()
        self._vaults = Destinations(targets, self._crew, self._counters, random, machinery.compression)
        self._memo = memo_of(targets[0].vault, self._counters.note) if request.stream is None else NoMemo()
        self._trees = TreeWriter(self._vaults, self._memo)
        chunker = Chunker(self._vaults.sealing.seed)
        self._reader = Reader(self._crew, self._vaults, self._trees, chunker, self._counters)

    def _uploaded(self) -> int:
        return self._vaults.uploaded()

    def run(self) -> list[BackupSummary | OortError]:
        try:
            return self._run()
        finally:
            self._memo.close()

    def _run(self) -> list[BackupSummary | OortError]:
        started = self._machinery.monotonic()
        give_back_large_buffers()  # for callers of the engine alone, too
        paths = self._request.paths if self._request.stream else absolute_paths(self._request.paths)
        for link in () if self._request.stream else links_among(paths):
            self._counters.warn(link, _ONLY_A_LINK.format(link=os.fsdecode(link)))
        for damage in self._request.warnings:
            self._counters.warn(damage.path, damage.reason)
        for one in self._vaults.all:
            self._ensure_fits(one, paths)
        try:
            tree = self._store_all(paths)
            snapshots = [one.attempt(None, self._commit, one, paths, tree) for one in self._vaults.all]
            self._crew.check()
        except NobodyLeft:
            snapshots = [None for _ in self._vaults.all]
        finally:
            self._vaults.end()
        self._counters.scanned = True
        tally = self._counters.report()
        return [
            _failure_of(one) if snapshot is None else self._summary(one, snapshot, tree, tally, started)
            for one, snapshot in zip(self._vaults.all, snapshots, strict=True)
        ]

    def _store_all(self, paths: tuple[bytes, ...]) -> BlobId:
        """The tree of all that was wanted, which every vault holds that has not failed."""
        for one in self._vaults.all:
            one.attempt(None, self._tell_damage, one)
        self._vaults.prepare()
        self._crew.check()
        self._work(paths)
        tree = self._trees.root
        if tree is None:
            raise AssertionError("the root folder was not finished")
        if not self._trees.kept:
            raise NothingLeft(paths=paths_text(list(map(os.fsdecode, paths))))
        return tree

    def _tell_damage(self, one: Destination) -> None:
        for name, error in one.vault.index.damaged.items():
            # What is listed nowhere else is stored again; nothing that is stored is lost by that.
            self._counters.warn(str(name).encode(), f"cannot be read: {reason_unread(error)}")

    def _summary(
        self, one: Destination, snapshot: ObjectName, tree: BlobId, tally: Tally, started: float
    ) -> BackupSummary:
        return BackupSummary(
            snapshot=snapshot,
            parent=one.target.parent,
            tree=tree.hex(),
            files_new=tally.files_new,
            files_changed=tally.files_changed,
            files_unmodified=tally.files_unmodified,
            dirs=tally.dirs,
            total_files=tally.total_files,
            total_bytes=tally.total_bytes,
            new_bytes=one.packer.new_bytes,
            stored_bytes=one.packer.stored_bytes,
            uploaded_bytes=one.session.uploaded(),
            seconds=self._machinery.monotonic() - started,
            warnings=tuple(self._counters.warnings),
            warned=self._counters.warned,
        )

    def _work(self, paths: tuple[bytes, ...]) -> None:
        """Scan, read and store everything; when it returns all packs are acknowledged and no thread is left."""
        try:
            self._vaults.start()
            self._reader.start(self._machinery.workers, self._machinery.readers)
            self._scan(paths)
            self._counters.scanned = True
            self._reader.close()
            self._reader.wait()
            self._trees.flush()
            self._vaults.finish()
        except BaseException as error:  # noqa: BLE001 - raised again below, when all threads have ended
            self._crew.fail(error)
            # A thread that waits for the store is woken by closing the session under it.
            with suppress(OortError):  # it is why this came about that counts
                self._crew.end(self._break_off)
        finally:
            self._reader.end()
        self._crew.check()

    def _break_off(self) -> None:
        """Wake the threads that wait for something outside: their calls fail."""
        try:
            self._vaults.break_off()
        finally:
            self._reader.end()

    def _scan(self, paths: tuple[bytes, ...]) -> None:
        """Hand everything to the reader, in this thread."""
        known_tree = self._vaults.known_tree
        known: KnownTrees = self._vaults if known_tree else NoKnownTrees()
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

    def _ensure_fits(self, one: Destination, paths: tuple[bytes, ...]) -> None:
        """Find out now, and not when all is stored, whether a snapshot can name so many paths."""
        _, body = self._sealed(one, paths, BlobId(ID_BYTES))
        if len(body) > MAX_SNAPSHOT_BYTES - _TREE_DIGITS:
            raise UsageError(
                detail=f"{len(paths):,} paths, with the patterns, are more than a snapshot can name "
                f"({MAX_SNAPSHOT_BYTES >> 20} MiB, compressed): give folders that hold them, and leave out the rest"
            )

    def _commit(self, one: Destination, paths: tuple[bytes, ...], tree: BlobId) -> ObjectName:
        one.uploader.list_rest()
        name, body = self._sealed(one, paths, tree)
        one.session.commit(name, body)
        self._counters.committed(one.number, name)
        return name

    def _sealed(self, one: Destination, paths: tuple[bytes, ...], tree: BlobId) -> tuple[ObjectName, bytes]:
        """Name and body of the snapshot in one vault."""
        request, parent = self._request, one.target.parent
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
            parent=parent.id if parent else None,
        )
        return one.vault.seal_unpacked(ObjectKind.SNAPSHOT, encode_snapshot(snapshot))


def _failure_of(one: Destination) -> OortError:
    if isinstance(one.crew.error, OortError):
        return one.crew.error
    raise AssertionError("a vault without a snapshot has failed")
