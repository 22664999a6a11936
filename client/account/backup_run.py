"""A backup as the account sees it: item, job, and one vault or several; the engine does the rest.

Kept true: every way that a backup ends is the end of its job, with the status that the exit code says too; a session
that a node has ended is followed by a new one, which goes on from what is stored. Of several vaults each has its own
outcome: as long as one has its snapshot, those that failed make the job a warning that names them.
"""

import getpass
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.backup_vault import BackupVault
from client.account.device import Device
from client.account.items import FILE_ENGINE, STREAM_ENGINE, Items
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, carrying_out, report_kept, status_of
from client.account.opening import first_in_one_place, place_at
from client.account.opening_together import open_all
from client.account.vaults import Vaults
from client.backup.destinations import Target, cut_for
from client.backup.request import BackupRequest, BackupSummary, Tally, Warned
from client.backup.run import Machinery, backup
from client.backup.selection import EVERYTHING, Selection, Selector
from client.backup.stream import Stream
from client.backup.targets import absolute_paths
from client.errors import OortError, SessionOver, UsageError
from client.platforms.linux import give_back_large_buffers, identities
from client.vault.snapshots import DEVICE_TAG, ITEM_TAG, Snapshot, newest_first, paths_text
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectName
from domain.sessions import Purpose

_SESSIONS = 4  # that may be ended under one backup
MOST_VAULTS = 4  # so that the packs of each, which share the memory of one vault's, are not too small for prune


class BackupView(Protocol):
    """Shows a person how it goes. Called from several threads, one call at a time."""

    def index_read(self, done: int, total: int) -> None:
        """Files of the vault's index that have been read, and that there are to read; before all else."""

    def advanced(self, tally: Tally) -> None: ...

    def warned(self, path: bytes, reason: str) -> None: ...

    def noted(self, text: str) -> None: ...

    def failed(self, vault: str, error: OortError) -> None:
        """There is no snapshot in one of several vaults."""


@dataclass(frozen=True, slots=True)
class VaultResult:
    """What became of one vault, which is as the profile had it: a snapshot, or why there is none."""

    vault: VaultEntry
    outcome: BackupSummary | OortError

    @property
    def has_snapshot(self) -> bool:
        return isinstance(self.outcome, BackupSummary)


@dataclass(frozen=True, slots=True)
class BackupResult:
    """`vaults` are in the order in which they were named; at least one has a snapshot, and `summary` is the first's.

    `untold` is why auth has not heard the end of the job yet, if it has not.
    """

    vaults: tuple[VaultResult, ...]
    job: str
    untold: OortError | None

    @property
    def summary(self) -> BackupSummary:
        return next(one.outcome for one in self.vaults if isinstance(one.outcome, BackupSummary))

    @property
    def warned(self) -> int:
        """Warnings of the vault that has the most: those of one session are the same for all, and of another anew."""
        return max(one.outcome.warned for one in self.vaults if isinstance(one.outcome, BackupSummary))

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was wanted is missing anywhere."""
        return not self.warned and all(one.has_snapshot for one in self.vaults)


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
    device: Device,
    vault_names: Sequence[str],
    paths: Sequence[bytes],
    view: BackupView,
    options: BackupOptions = _NO_OPTIONS,
) -> BackupResult:
    """Back up `paths`, or a stream under the one path, to each of the vaults; what is read is read once.

    Raises OortError, if no vault has a snapshot then. KeyboardInterrupt ends the job as cancelled.
    """
    # Before gRPC starts its threads: each would keep an area of its own, with 11 MiB that nothing gives back.
    give_back_large_buffers()
    Selector(options.selection)  # what is wrong with it is told before anything is done
    wanted = tuple(paths) if options.stream else absolute_paths(paths)
    with ExitStack() as stack:
        vaults = _vaults_named(device, vault_names, stack)
        with suppress(OortError):  # they are told by a later command, and this one has work to do
            report_kept(device)
        engine = STREAM_ENGINE if options.stream else FILE_ENGINE
        item = Items(device).of_paths([os.fsdecode(path) for path in wanted], engine)
        run = _BackupRun(device, vaults, wanted, options, item, view=view)
        return run.carry_out()


def _vaults_named(device: Device, names: Sequence[str], stack: ExitStack) -> list[BackupVault]:
    """The vaults of these names, with their stores. Raises NoSuchVault, UsageError; of a single vault what it may."""
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise UsageError(detail=f"The vault {twice} is named twice: name each vault once.")
    if len(names) > MOST_VAULTS:
        raise UsageError(detail=f"A backup goes to {MOST_VAULTS} vaults at most, not to {len(names)}.")
    profile = Vaults(device)
    entries = profile.all_named(names)
    same = first_in_one_place(profile, entries)
    if same is not None:
        raise UsageError(detail=f"The vaults {same[0].name} and {same[1].name} are one place: name one of them.")
    vaults = []
    for entry in entries:
        try:
            vaults.append(BackupVault(entry, stack.enter_context(place_at(device, profile, entry, Purpose.BACKUP))))
        except OortError as error:
            if len(entries) == 1:
                raise
            vaults.append(BackupVault(entry, None, error))
    return vaults


class _BackupRun:
    """One job."""

    def __init__(
        self,
        device: Device,
        vaults: Sequence[BackupVault],
        paths: tuple[bytes, ...],
        options: BackupOptions,
        item: str,
        *,
        view: BackupView,
    ) -> None:
        self._device = device
        self._vaults = vaults
        self._item = item
        self._view = view
        self._options = options
        self._warnings = 0
        self._sent_before = 0  # bytes, by sessions before this one
        self._at_work: list[BackupVault] = []  # those that the engine knows by number
        self._is_last_session = False
        self._told: dict[str, OortError] = {}  # why vaults have failed, by their ids, as it was told
        ids = [vault.entry.id for vault in vaults]
        self._job = RunningJob(device, JobKind.BACKUP, ids[0], item, vaults=ids)
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
            try:
                self._in_sessions()
            except BaseException as error:
                self._tell_snapshots()
                self._tell_results(error)
                raise
            self._tell_results(None)
            outcomes = [vault.ended for vault in self._vaults]
            if not any(isinstance(outcome, BackupSummary) for outcome in outcomes):
                raise next(outcome for outcome in outcomes if isinstance(outcome, OortError))
        results = tuple(VaultResult(*both) for both in zip((one.entry for one in self._vaults), outcomes, strict=True))
        result = BackupResult(results, self._job.id, None)
        self._job.advanced(_counts_of(result))
        first = outcomes[0]  # the job's own vault
        untold = self._job.end(
            JobStatus.SUCCESS if result.is_whole else JobStatus.WARNING,
            snapshot=first.snapshot.id if isinstance(first, BackupSummary) else "",
        )
        return replace(result, untold=untold)

    def _tell_snapshots(self) -> None:
        """Say what is there although the job did not come to its end; the log has it already."""
        for vault in self._vaults:
            if vault.snapshot is not None:
                self._view.noted(f"snapshot {vault.snapshot.id} exists in the vault {vault.entry.name}")

    def _tell_results(self, ended: BaseException | None) -> None:
        for vault in self._vaults:
            if vault.entry.id not in self._told:
                vault.tell(self._job, ended)

    def _tell_failure(self, vault: BackupVault, error: OortError) -> None:
        """Tell the log and the person, once, that one of several vaults has failed, if no other session follows."""
        goes_on = isinstance(error, SessionOver) and not self._is_last_session
        if len(self._vaults) > 1 and not goes_on and vault.entry.id not in self._told:
            self._told[vault.entry.id] = error
            self._job.log(ERROR, f"Vault {vault.entry.name}: {error}")
            self._job.vault_ended(vault.entry.id, status_of(error), error=str(error))
            self._view.failed(vault.entry.name, error)

    def _tell_failures(self) -> None:
        for vault in self._vaults:
            if isinstance(vault.outcome, OortError):
                self._tell_failure(vault, vault.outcome)

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

    def committed(self, vault: int, snapshot: ObjectName) -> None:
        one = self._at_work[vault]
        one.snapshot = snapshot
        self._job.vault_ended(one.entry.id, JobStatus.WARNING if self._warnings else JobStatus.SUCCESS, snapshot.id)
        where = "" if len(self._vaults) == 1 else f"Vault {one.entry.name}: "
        paths = paths_text(list(map(os.fsdecode, self._request.paths)))
        self._job.log(INFO, f"{where}Snapshot {snapshot.id} of {paths}")

    def failed(self, vault: int, error: OortError) -> None:
        self._tell_failure(self._at_work[vault], error)

    # Sessions

    def _in_sessions(self) -> None:
        """Have every vault come to its outcome. One whose session was ended goes on alone, in another."""
        vaults = [vault for vault in self._vaults if vault.outcome is None]
        sessions = 1 if self._request.stream else _SESSIONS  # a stream comes once
        for session in range(sessions):
            self._is_last_session = session + 1 == sessions
            for vault in vaults:
                if vault.is_over:
                    self._job.log(INFO, str(vault.outcome))
            try:
                self._in_session(vaults)
            except OortError as error:  # of the files, say: the vaults that have their snapshot keep it
                if not any(isinstance(vault.outcome, BackupSummary) for vault in self._vaults):
                    raise
                for vault in vaults:
                    vault.end(self._told.get(vault.entry.id, error))
            self._tell_failures()
            vaults = [vault for vault in vaults if vault.is_over]
            if not vaults:
                break

    def _in_session(self, vaults: Sequence[BackupVault]) -> None:
        self._warnings = 0  # those of a session before come again
        with ExitStack() as stack:
            for vault in vaults:
                stack.callback(self._close, vault)
            open_all(vaults, self._device.id, self._choose_parent, self._view.index_read)
            self._tell_failures()
            targets = [(vault, vault.target) for vault in vaults if vault.target is not None]
            self._ensure_apart(targets)
            if targets:
                self._at_work = [vault for vault, _ in targets]
                self._sent_before = sum(vault.sent_before for vault in self._vaults)
                self._cut_alike(targets)
                request = replace(
                    self._request,
                    excluded=identities([path for vault in self._vaults for path in vault.own_folders()]),
                    warnings=(*self._options.missing, *(one for vault, _ in targets for one in vault.unreadable)),
                )
                outcomes = backup([target for _, target in targets], request, self, self._options.machinery)
                for (vault, _), outcome in zip(targets, outcomes, strict=True):
                    vault.end(outcome)

    def _close(self, vault: BackupVault) -> None:
        warning = vault.close()
        if warning is not None:
            self.warned(warning.path, warning.reason)

    def _choose_parent(self, snapshots: list[Snapshot]) -> Snapshot | None:
        return choose_parent(snapshots, self._item, self._device.id, self._request)

    def _ensure_apart(self, targets: Sequence[tuple[BackupVault, Target]]) -> None:
        """Refuse what is one vault under two names."""
        names: dict[str, str] = {}
        for vault, target in targets:
            name = names.setdefault(target.vault.config.id, vault.entry.name)
            if name != vault.entry.name:
                raise UsageError(
                    detail=f"The vaults {name} and {vault.entry.name} are one vault, or one was copied from the other "
                    "file by file: back up to one of them."
                )

    def _cut_alike(self, targets: Sequence[tuple[BackupVault, Target]]) -> None:
        """Have the files of all vaults cut alike from now on, and say for which that is new.

        It is remembered before anything is stored: what a vault that fails has got of it is found by the next session.
        """
        leader = cut_for([target for _, target in targets])
        whose = next(vault.entry.name for vault, target in targets if target is leader)
        for vault, target in targets:
            if target.cut_seed != leader.cut_seed:
                vault.remember_cuts(leader.cut_seed)
                if vault.parent is not None:
                    self.noted(
                        f"Large files are cut as the vault {whose} has them: the vault {vault.entry.name} stores each "
                        "of them once more, changed or not, but for what was copied from there. What it has of them "
                        "so far stays until retention and prune remove it. This is so once."
                    )


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


def _counts_of(result: BackupResult) -> JobCounts:
    summary, outcomes = result.summary, [one.outcome for one in result.vaults]
    return JobCounts(
        files=summary.total_files,
        folders=summary.dirs,
        bytes=summary.total_bytes,
        uploaded_bytes=sum(one.uploaded_bytes for one in outcomes if isinstance(one, BackupSummary)),
        total_files=summary.total_files,
        total_bytes=summary.total_bytes,
        warnings=result.warned + sum(isinstance(one, OortError) for one in outcomes),
    )


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
