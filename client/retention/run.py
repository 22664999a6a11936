"""A retention pass as the account sees it: rules, plan, job, session, lock.

Kept true: what goes is what a person agreed to and what a plan made in the session that removes it names again;
nothing else. A snapshot on which a running backup builds stays, and is named. A dry run is no job.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Protocol

from client.account.device import Device
from client.account.job_record import JobCounts
from client.account.jobs import ERROR, INFO, WARNING, RunningJob, carrying_out, report_kept
from client.account.opening import Place, place_of
from client.errors import (
    AppendOnly,
    DamagedVault,
    NoRoomForIndex,
    NoSuchItem,
    ObjectMissing,
    OortError,
    SnapshotInUse,
)
from client.retention.plan import Plan, Rules, make_plan
from client.retention.stored import stored_rules
from client.retention.zones import named_zone
from client.vault.locks import VaultLock
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, paths_text
from domain.jobs import JobKind, JobStatus
from domain.names import ObjectKind, ObjectName
from domain.retention_policy import Policy
from domain.sessions import Purpose
from domain.wording import plural

if TYPE_CHECKING:
    from client.retention.prune import PruneLimits, PruneReport


class RetentionView(Protocol):
    """Shows a person how it goes."""

    def unread(self, name: ObjectName, error: DamagedVault | ObjectMissing) -> None:
        """A snapshot that cannot be read, and so stays."""

    def planned(self, plan: Plan) -> None: ...

    def in_use(self, snapshot: Snapshot, error: SnapshotInUse) -> None:
        """A snapshot that stays because a running backup builds on it, or the storage holds it."""

    def pruning(self, what: str, done: int, total: int) -> None:
        """How far a prune is; `total` is 0 if it is not known."""


@dataclass(frozen=True, slots=True)
class RetentionOrder:
    """Rules that override those stored, and the one item that is meant; `now` has a zone, `zone` is the device's.

    With `prune` the space of what no snapshot needs is freed, too, in the same session.
    Where auth can be asked, and has an earlier time, that counts: a clock that is ahead makes nothing old.
    """

    now: datetime
    zone: tzinfo
    policy: Policy | None = None
    item: str = ""
    dry_run: bool = False
    prune: "PruneLimits | None" = None


@dataclass(slots=True)
class RetentionResult:
    """What was done by `plan`, or of a dry run, which has no `job`, would be: `pruned` is its plan then.

    `untold` is why auth has not heard the job's end yet.
    """

    plan: Plan
    unread: int = 0
    removed: list[Snapshot] = field(default_factory=list)
    in_use: list[Snapshot] = field(default_factory=list)
    pruned: "PruneReport | None" = None
    job: str = ""
    untold: OortError | None = None

    @property
    def warnings(self) -> int:
        """Items that were spared, snapshots that stay against the rules or cannot be read, what the store keeps.

        So are packs that could not be repacked, as the store is full.
        """
        stays = self.pruned.refused.count + self.pruned.unmoved_packs if self.pruned else 0
        return len(self.plan.spared) + len(self.in_use) + self.unread + stays

    @property
    def damages(self) -> int:
        """What a prune found damaged or missing."""
        return self.pruned.problems.count + self.pruned.damaged.count if self.pruned else 0


def run_retention(
    device: Device, vault_name: str, order: RetentionOrder, view: RetentionView, agree: Callable[[Plan], None]
) -> RetentionResult:
    """Remove the snapshots of a vault that the rules do not keep.

    `agree` raises if a person does not want the plan, before anything is done. Raises NoSuchVault, NoSuchItem,
    BadRetention, AppendOnly, RetentionRunning, VaultLocked, StoreError; KeyboardInterrupt ends the job as cancelled.
    """
    with place_of(device, vault_name, Purpose.READ if order.dry_run else Purpose.RETENTION) as place:
        if not order.dry_run and not place.store.allows(Purpose.RETENTION):
            raise AppendOnly(place=place.store.place)
        run = Pass(device, place, order, view)
        result = run.look()
        view.planned(result.plan)
        if not order.dry_run:
            agree(result.plan)
            run.carry_out(result)
        return result


class Pass:
    """One pass: `look`, then `carry_out`."""

    def __init__(self, device: Device, place: Place, order: RetentionOrder, view: RetentionView) -> None:
        self._device = device
        self._place = place
        self._rules = _rules_in_force(place, order.policy)
        self._order = order
        self._view = view
        self.now = min(order.now, place.vaults.now or order.now)

    def look(self) -> RetentionResult:
        """What would be done, found in a session that only reads: whoever thinks about it keeps nobody out."""
        unread: dict[ObjectName, DamagedVault] = {}
        with self._place.store.open(Purpose.READ) as session:
            vault = self._place.open(session)
            if vault is None:
                if self._order.item:
                    raise NoSuchItem(item=self._order.item)
                return RetentionResult(Plan())
            with vault:
                result = RetentionResult(self._plan(vault, unread.__setitem__), len(unread))
                if self._order.dry_run:
                    result.pruned = self._foresee(vault, result.plan)
        for name, error in unread.items():
            self._view.unread(name, error)
        return result

    def _foresee(self, vault: Vault, plan: Plan) -> "PruneReport | None":
        if self._order.prune is None:
            return None
        from client.retention.prune import plan_prune

        without = frozenset(ObjectName(ObjectKind.SNAPSHOT, one.id) for one in plan.removed)
        return plan_prune(vault, self._order.prune, self._view.pruning, without=without)

    def carry_out(self, result: RetentionResult) -> None:
        """Remove what was planned, and end the job with what came of it."""
        with suppress(OortError):  # they are told by a later command, and this one has work to do
            report_kept(self._device)
        item = result.plan.items[0].item if self._order.item else ""
        frees = self._order.prune is not None
        job = RunningJob(self._device, JobKind.RETENTION, self._place.entry.id, item, prune=frees)
        with carrying_out(job):
            for spared in result.plan.spared:
                paths = paths_text(spared.snapshots[-1].paths)
                job.log(WARNING, f"The rules would remove every snapshot of {paths}: none was removed")
            if result.plan.removed or self._order.prune is not None:
                self._remove_agreed(result, job)
        job.advanced(JobCounts(warnings=result.warnings + result.damages))
        if result.pruned is not None and result.pruned.freed_nothing:
            job.freed_nothing()
        result.job = job.id
        status = JobStatus.WARNING if result.warnings else JobStatus.SUCCESS
        result.untold = job.end(JobStatus.ERROR if result.damages else status)

    def _remove_agreed(self, result: RetentionResult, job: RunningJob) -> None:
        agreed = {snapshot.id for snapshot in result.plan.removed}
        limits = self._order.prune

        def remove_and_prune(vault: Vault, lock: VaultLock | None) -> None:
            for snapshot in self._plan(vault, lambda *_: None).removed:
                if snapshot.id in agreed:
                    self._remove(vault, snapshot, lock, result, job)
            if limits is not None:
                self._prune(vault, limits, lock, result, job)

        try:
            self._alone(remove_and_prune)
        except NoRoomForIndex as error:
            if limits is None or limits.repack_bytes == 0:
                raise
            less, full = replace(limits, repack_bytes=0), str(error)
        else:
            return
        # New packs have taken the room: in another session they are what no index file lists, and go. It begins when
        # the error is forgotten, which holds all that the first one had in memory.
        self._alone(lambda vault, lock: self._prune(vault, less, lock, result, job, full=full))

    def _alone(self, work: Callable[[Vault, VaultLock | None], None]) -> None:
        """Work in a session of retention, under restic's exclusive lock where there are locks; not without a vault."""
        with self._place.store.open(Purpose.RETENTION) as session:
            vault = self._place.open(session)
            if vault is None:
                return
            with vault, self._place.locked(vault, exclusive=True) as lock:
                work(vault, lock)

    def _prune(
        self,
        vault: Vault,
        limits: "PruneLimits",
        lock: VaultLock | None,
        result: RetentionResult,
        job: RunningJob,
        *,
        full: str = "",
    ) -> None:
        """`full` says why a prune that was to repack could not, where this is the one after it."""
        from client.retention.prune import prune

        ensure_locked = _nothing if lock is None else lock.ensure_held
        report = prune(vault, limits, self._view.pruning, ensure_locked=ensure_locked)
        if full:
            report.unmoved_packs, report.postponed_packs, report.full = report.postponed_packs, 0, full
        result.pruned = report
        for severity, findings in ((ERROR, report.problems), (ERROR, report.damaged), (WARNING, report.refused)):
            for one in findings.named:
                job.log(severity, one)
        if report.unmoved_packs:
            job.log(WARNING, f"{plural(report.unmoved_packs, 'pack')} left as before: {report.full}")
        if report.in_use:
            kept = f"{plural(report.packs_in_use, 'pack')} and {plural(report.index_files_in_use, 'index file')}"
            job.log(INFO, f"{kept} kept for now, for sessions that use them")
        job.log(INFO, f"{plural(report.freed_bytes, 'byte')} freed, {report.added_bytes:,} written anew")

    def _remove(
        self, vault: Vault, snapshot: Snapshot, lock: VaultLock | None, result: RetentionResult, job: RunningJob
    ) -> None:
        if lock is not None:
            lock.ensure_held()
        try:
            with suppress(ObjectMissing):  # another program removed it
                vault.session.remove(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
        except SnapshotInUse as error:
            result.in_use.append(snapshot)
            job.log(WARNING, str(error))
            self._view.in_use(snapshot, error)
        else:
            result.removed.append(snapshot)
            job.log(INFO, f"Snapshot {snapshot.id} of {paths_text(snapshot.paths)} removed")

    def _plan(self, vault: Vault, unread: Callable[[ObjectName, DamagedVault], None]) -> Plan:
        order = self._order
        return make_plan(vault.snapshots(unread), self._rules, self.now, self._zone_of, order.item)

    def _zone_of(self, policy: Policy) -> tzinfo:
        return named_zone(policy.time_zone) if policy.time_zone else self._order.zone


def _nothing() -> None:
    """No lock can be lost where none is needed."""


def _rules_in_force(place: Place, given: Policy | None) -> Rules:
    """Those given, or those stored now: by stored ones of an earlier day nothing is removed. Raises OortError."""
    if given is not None:
        return Rules(given=given)
    if place.vaults.unreachable is not None:
        raise place.vaults.unreachable
    return stored_rules(place.entry)
