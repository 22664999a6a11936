"""One vault of a backup: parent, session, lock, and what became of it.

Kept true: what goes wrong with it is its own outcome, also when its session or lock is given up; a parent is pinned by
the session that it was chosen for, or there is none; an opening that nobody waits for any more changes no outcome, ends
with the step that it is at, and lets go of what it has opened.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.jobs import RunningJob, status_of
from client.account.opening import Place
from client.account.vaults import keep_if_possible
from client.backup.destinations import Target
from client.backup.request import BackupSummary, Warned
from client.errors import DamagedVault, OortError, ParentGone, SessionOver, StoreError
from client.stores.abc import StoreSession
from client.stores.resuming import ResumingSession
from client.vault.chunker import SEED_BITS
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import Snapshot
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

_PARENTS = 5  # that may be removed just before a session pins them

_SEED_DIGITS = 19  # of 63 bits

_NO_TURNS = nullcontext()

Choose = Callable[[list[Snapshot]], Snapshot | None]


class BackupVault:
    """Raises nothing of its own: see `outcome`."""

    def __init__(self, entry: VaultEntry, place: Place | None, failure: OortError | None = None) -> None:
        """`place` is None where `failure` says why there is none."""
        self.entry = entry
        self.place = place
        self.outcome: BackupSummary | OortError | None = failure
        self.snapshot: ObjectName | None = None  # as soon as there is one
        self.unreadable: list[Warned] = []  # snapshots
        self.sent_before = 0  # bytes, by sessions that were ended
        self.parent: Snapshot | None = None
        self.target: Target | None = None
        self.heard = 0.0  # when its store answered last, while it is opened: monotonic seconds
        self._stack = ExitStack()
        self._settling = threading.Lock()
        self._is_given_up = False  # while it was opened
        self._has_stored = False  # this device, a snapshot that is there

    @property
    def is_over(self) -> bool:
        """Whether its session was ended, so that another may go on."""
        return isinstance(self.outcome, SessionOver)

    @property
    def ended(self) -> BackupSummary | OortError:
        """The outcome, when all sessions are over."""
        if self.outcome is None:
            raise AssertionError("a vault has an outcome when the sessions are over")
        return self.outcome

    def own_folders(self) -> list[Path | None]:
        """What is not worth a place in a backup to it."""
        return [] if self.place is None else self.place.own_folders()

    def open(
        self,
        device_id: str,
        choose: Choose,
        progress: Callable[[int, int], None],
        turn: AbstractContextManager[object] = _NO_TURNS,
    ) -> None:
        """Open a session for a backup that goes on from the snapshot that `choose` chooses; then `target` is set.

        The index is read within `turn`: a file of it takes memory.
        """
        target: Target | None = None
        failure: OortError | None = None
        with self._settling:
            if not self._is_given_up:
                self.outcome = None
        with ExitStack() as stack:
            try:
                target = self._opened(stack, device_id, choose, progress, turn)
            except OortError as error:
                failure = error
                with suppress(OortError):  # why it could not be opened counts
                    stack.close()
            with self._settling:
                if not self._is_given_up:
                    self.target, self.outcome, self._stack = target, failure, stack.pop_all()

    def give_up(self, why: OortError | None = None) -> bool:
        """Wait no more for it to be opened. False if it is open, or has failed."""
        with self._settling:
            if self.target is not None or self.outcome is not None:
                return False
            self._is_given_up = True
            self.outcome = why
            return True

    def _hear(self) -> None:
        """The store has answered."""
        self.heard = time.monotonic()

    def _ensure_wanted(self) -> None:
        """A step is done. Raises StoreError where nobody waits for the next one any more."""
        if self._is_given_up:
            raise StoreError(place=self._place().store.place, detail="it was given up")

    def _opened(
        self,
        stack: ExitStack,
        device_id: str,
        choose: Choose,
        progress: Callable[[int, int], None],
        turn: AbstractContextManager[object],
    ) -> Target:
        place = self._place()
        session, known = self._open_session(place, device_id, choose)
        stack.callback(self._count_sent, session)
        stack.enter_context(session)
        self._hear()
        self._ensure_wanted()
        vault = known.in_session(session) if known else place.open_or_create(session)
        stack.enter_context(vault)
        if not self._has_stored:
            place.ensure_seal(session)  # later ones need not ask each time
        self._hear()
        self._ensure_wanted()
        lock = stack.enter_context(place.locked(vault))
        # It has answered, and one file of the index may take minutes on a slow line: the store's own limits hold.
        self.heard = math.inf

        def index_read(done: int, total: int) -> None:
            self._ensure_wanted()
            progress(done, total)

        with turn:
            vault.load_index(index_read)
        return Target(
            vault,
            session,
            # What a parent says is unchanged is taken as it is; without one each pack is reserved, or gone.
            parent=_name_of(self.parent) if not session.has_more_lost else None,
            lost=session.lost,
            locked=lock is not None,
            ensure_locked=_nothing if lock is None else lock.ensure_held,
            seed=self._remembered_seed(place),
            give_up=self.close,
        )

    def close(self) -> Warned | None:
        """Give up lock and session, if that was not done. A snapshot is there, whatever comes of it: a warning then."""
        self.target = None
        stack, self._stack = self._stack, ExitStack()
        try:
            stack.close()
        except OortError as error:
            summary = self.outcome
            if isinstance(summary, BackupSummary):
                why = f"it exists in the vault {self.entry.name}, but its session or lock could not be ended: {error}"
                warning = Warned(str(summary.snapshot).encode(), why)
                warnings = (*summary.warnings, warning)
                self.outcome = replace(summary, warnings=warnings, warned=summary.warned + 1)
                return warning
            if summary is None:
                self.outcome = error
        return None

    def end(self, outcome: BackupSummary | OortError) -> None:
        """What the engine answered for it."""
        if isinstance(outcome, BackupSummary):
            outcome = replace(outcome, uploaded_bytes=outcome.uploaded_bytes + self.sent_before)
        self.outcome = outcome

    def tell(self, job: RunningJob, ended: BaseException | None) -> None:
        """Put what became of it into the job; `ended` has ended what has come to nothing else."""
        outcome = self.outcome or ended
        if isinstance(outcome, BackupSummary):
            status = JobStatus.WARNING if outcome.warned else JobStatus.SUCCESS
            job.vault_ended(self.entry.id, status, outcome.snapshot.id)
        elif isinstance(outcome, OortError) and self.snapshot is None:
            job.vault_ended(self.entry.id, status_of(outcome), error=str(outcome))

    def remember_cuts(self, seed: int) -> None:
        """Have the next backups from this home cut files so in this vault, where the home can be written."""
        keep_if_possible(self._place().device, self._cuts, f"{seed}".encode())

    @property
    def _cuts(self) -> str:
        """Where the home keeps the seed that files are cut with for this vault, if that is not its own."""
        return f"cuts/{self.entry.id}"

    def _remembered_seed(self, place: Place) -> int | None:
        kept = None
        with suppress(OortError):  # without it files are cut with the vault's own
            kept = place.device.home.read(self._cuts)
        if kept is None or len(kept) > _SEED_DIGITS or not kept.isdigit():
            return None
        seed = int(kept)
        return seed if seed < 1 << SEED_BITS else None

    def _place(self) -> Place:
        if self.place is None:
            raise AssertionError("a vault without a place is not opened")
        return self.place

    def _open_session(self, place: Place, device_id: str, choose: Choose) -> tuple[StoreSession, Vault | None]:
        """A session in which the parent, if there is one, stays; and the vault, if it was used before."""
        for _ in range(_PARENTS):
            vault = self._look(place, device_id, choose)
            try:
                return place.store.open(Purpose.BACKUP, _name_of(self.parent)), vault
            except ParentGone:
                continue
        self.parent = None
        return place.store.open(Purpose.BACKUP), None

    def _look(self, place: Place, device_id: str, choose: Choose) -> Vault | None:
        self.unreadable.clear()
        self.parent = None
        with ResumingSession(place.store, self._hear) as session:
            vault = place.open(session)
            if vault is None:
                return None
            snapshots = vault.snapshots(self._cannot_read)
        self._has_stored = any(snapshot.device == device_id for snapshot in snapshots)
        self.parent = choose(snapshots)
        return vault

    def _cannot_read(self, name: ObjectName, error: DamagedVault) -> None:
        self.unreadable.append(Warned(str(name).encode(), f"cannot be read: {reason_unread(error)}"))

    def _count_sent(self, session: StoreSession) -> None:
        self.sent_before += getattr(session, "sent_bytes", 0)


def _name_of(snapshot: Snapshot | None) -> ObjectName | None:
    return ObjectName(ObjectKind.SNAPSHOT, snapshot.id) if snapshot else None


def _nothing() -> None:
    """No lock can be lost where none is needed."""
