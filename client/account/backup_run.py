"""A backup as the account sees it: item, job, parent, session, lock; the engine does the rest.

Kept true: every way that a backup ends is the end of its job, with the status that the exit code says too; a session
that a node has ended is followed by a new one, which goes on from what is stored.
"""

import getpass
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.device import Device
from client.account.items import FILE_ENGINE, STREAM_ENGINE, Items
from client.account.job_record import JobCounts
from client.account.jobs import INFO, WARNING, RunningJob, carrying_out, report_kept
from client.account.opening import Place, place_of
from client.backup.request import BackupRequest, BackupSummary, Tally, Warned
from client.backup.run import Machinery, backup
from client.backup.selection import EVERYTHING, Selection, Selector
from client.backup.stream import Stream
from client.backup.targets import absolute_paths
from client.errors import DamagedVault, OortError, ParentGone, SessionOver
from client.platforms.linux import give_back_large_buffers, identities
from client.stores.abc import StoreSession
from client.vault.locks import vault_lock
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import DEVICE_TAG, ITEM_TAG, Snapshot, newest_first, paths_text
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

_SESSIONS = 4  # that may be ended under one backup
_PARENTS = 5  # that may be removed just before a session pins them


class BackupView(Protocol):
    """Shows a person how it goes. Called from several threads, one call at a time."""

    def index_read(self, done: int, total: int) -> None:
        """Files of the vault's index that have been read, and that there are to read; before all else."""

    def advanced(self, tally: Tally) -> None: ...

    def warned(self, path: bytes, reason: str) -> None: ...

    def noted(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class BackupResult:
    """`untold` is why auth has not heard the end of the job yet, if it has not; `vault` as the profile had it."""

    summary: BackupSummary
    vault: VaultEntry
    job: str
    untold: OortError | None


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """What is left out; what comes through a `stream` instead of files; and how many threads work on it.

    `missing` are paths that were wanted too, but that there are not. The snapshot gets `tags` beside those of item and
    device.
    """

    selection: Selection = EVERYTHING
    stream: Stream | None = None
    missing: tuple[Warned, ...] = ()
    tags: tuple[str, ...] = ()
    machinery: Machinery | None = None


_NO_OPTIONS = BackupOptions()


def run_backup(
    device: Device, vault_name: str, paths: Sequence[bytes], view: BackupView, options: BackupOptions = _NO_OPTIONS
) -> BackupResult:
    """Back up `paths` to a vault, or a stream under the one path. Raises OortError.

    KeyboardInterrupt ends the job as cancelled.
    """
    # Before gRPC starts its threads: each would keep an area of its own, with 11 MiB that nothing gives back.
    give_back_large_buffers()
    Selector(options.selection)  # what is wrong with it is told before anything is done
    wanted = tuple(paths) if options.stream else absolute_paths(paths)
    with place_of(device, vault_name, Purpose.BACKUP) as place:
        with suppress(OortError):  # they are told by a later command, and this one has work to do
            report_kept(device)
        engine = STREAM_ENGINE if options.stream else FILE_ENGINE
        item = Items(device).of_paths([os.fsdecode(path) for path in wanted], engine)
        run = _BackupRun(device, place, wanted, options, item, view=view)
        return run.carry_out()


class _BackupRun:
    """One job."""

    def __init__(
        self,
        device: Device,
        place: Place,
        paths: tuple[bytes, ...],
        options: BackupOptions,
        item: str,
        *,
        view: BackupView,
    ) -> None:
        self._device = device
        self._place = place
        self._item = item
        self._view = view
        self._options = options
        self._sent_before = 0  # by sessions that were ended
        self._warnings = 0
        self._unreadable: list[Warned] = []  # snapshots
        self._has_stored = False  # this device, a snapshot that is there
        self._job = RunningJob(device, JobKind.BACKUP, place.entry.id, item)
        self._request = BackupRequest(
            paths=paths,
            time=datetime.now(UTC),
            hostname=socket.gethostname(),
            username=_username(),
            tags=(f"{ITEM_TAG}{item}", f"{DEVICE_TAG}{device.id}", *options.tags),
            uid=os.getuid(),
            gid=os.getgid(),
            selection=options.selection,
            stream=options.stream,
        )

    def carry_out(self) -> BackupResult:
        with carrying_out(self._job):
            summary = self._in_sessions()
        paths = list(map(os.fsdecode, self._request.paths))
        self._job.log(INFO, f"Snapshot {summary.snapshot.id} of {paths_text(paths)}")
        self._job.advanced(_counts_of(summary))
        untold = self._job.end(
            JobStatus.WARNING if summary.warnings else JobStatus.SUCCESS, snapshot=summary.snapshot.id
        )
        return BackupResult(summary, self._place.entry, self._job.id, untold)

    # What the engine tells

    def advanced(self, tally: Tally) -> None:
        tally = replace(tally, uploaded_bytes=tally.uploaded_bytes + self._sent_before)
        self._job.advanced(_counts_so_far(tally, self._warnings))
        self._view.advanced(tally)

    def warned(self, path: bytes, reason: str) -> None:
        self._warnings += 1
        self._job.log(WARNING, f"{os.fsdecode(path)}: {reason}")
        self._view.warned(path, reason)

    def noted(self, text: str) -> None:
        self._job.log(INFO, text)
        self._view.noted(text)

    # Sessions

    def _in_sessions(self) -> BackupSummary:
        sessions = 1 if self._request.stream else _SESSIONS  # a stream comes once
        for _ in range(sessions - 1):
            try:
                return self._in_session()
            except SessionOver as over:
                self._job.log(INFO, str(over))
        return self._in_session()

    def _in_session(self) -> BackupSummary:
        self._warnings = 0  # those of a session before come again
        session, parent, known = self._open()
        try:
            with session:
                vault = known.in_session(session) if known else self._place.open_or_create(session)
                if not self._has_stored:
                    self._place.ensure_seal(session)  # later ones need not ask each time
                with (
                    vault,
                    vault_lock(vault, needed=self._place.store.needs_locks, place=self._place.store.place) as lock,
                ):
                    request = replace(
                        self._request,
                        # What a parent says is unchanged is taken as it is; without one each pack is reserved, or gone.
                        parent=None if session.has_more_lost else parent,
                        excluded=identities(self._place.own_folders()),
                        warnings=(*self._options.missing, *self._unreadable),
                        lost=session.lost,
                    )
                    vault.load_index(self._view.index_read)
                    ensure_locked = _nothing if lock is None else lock.ensure_held
                    summary = backup(
                        vault,
                        session,
                        request,
                        self,
                        self._options.machinery,
                        locked=lock is not None,
                        ensure_locked=ensure_locked,
                    )
            return replace(summary, uploaded_bytes=summary.uploaded_bytes + self._sent_before)
        finally:
            self._sent_before += getattr(session, "sent_bytes", 0)

    def _open(self) -> tuple[StoreSession, ObjectName | None, Vault | None]:
        """A session in which the parent, if there is one, stays; and the vault, if it was used before."""
        for _ in range(_PARENTS):
            vault, parent = self._look()
            try:
                return self._place.store.open(Purpose.BACKUP, parent), parent, vault
            except ParentGone:
                continue
        return self._place.store.open(Purpose.BACKUP), None, None

    def _look(self) -> tuple[Vault | None, ObjectName | None]:
        self._unreadable.clear()
        with self._place.store.open(Purpose.READ) as session:
            vault = self._place.open(session)
            if vault is None:
                return None, None
            snapshots = vault.snapshots(self._cannot_read)
        self._has_stored = any(snapshot.device == self._device.id for snapshot in snapshots)
        parent = choose_parent(snapshots, self._item, self._device.id, self._request)
        return vault, ObjectName(ObjectKind.SNAPSHOT, parent.id) if parent else None

    def _cannot_read(self, name: ObjectName, error: DamagedVault) -> None:
        self._unreadable.append(Warned(str(name).encode(), f"cannot be read: {reason_unread(error)}"))


def _nothing() -> None:
    """No lock can be lost where none is needed."""


def choose_parent(snapshots: Iterable[Snapshot], item: str, device: str, request: BackupRequest) -> Snapshot | None:
    """The newest snapshot of the same item and device, else of the same host and paths."""
    newest = newest_first(snapshots)
    paths = tuple(sorted(map(os.fsdecode, request.paths)))
    for snapshot in newest:
        if snapshot.item == item and snapshot.device == device:
            return snapshot
    for snapshot in newest:
        if snapshot.hostname == request.hostname and tuple(sorted(snapshot.paths)) == paths:
            return snapshot
    return None


def _counts_so_far(tally: Tally, warnings: int) -> JobCounts:
    return JobCounts(
        files=tally.files_new + tally.files_changed + tally.files_unmodified,
        folders=tally.dirs,
        bytes=tally.done_bytes,
        uploaded_bytes=tally.uploaded_bytes,
        total_files=tally.total_files if tally.scanned else 0,
        total_bytes=tally.total_bytes if tally.scanned else 0,
        warnings=warnings,
    )


def _counts_of(summary: BackupSummary) -> JobCounts:
    return JobCounts(
        files=summary.total_files,
        folders=summary.dirs,
        bytes=summary.total_bytes,
        uploaded_bytes=summary.uploaded_bytes,
        total_files=summary.total_files,
        total_bytes=summary.total_bytes,
        warnings=summary.warned,
    )


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
