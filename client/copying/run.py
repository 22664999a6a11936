"""Snapshots copied from one vault into another, which seals by keys and compresses by a version of its own.

Kept true: of what the target holds no file data is read; packs are acknowledged before the index files that list them,
and these before any snapshot; a snapshot of which anything is lost is not copied, and named; whatever ends a copy, the
next one goes on with what it has stored.

It goes by rounds, oldest snapshots first, each as many as need a GiB together that no round before has copied; at the
end of a round its snapshots are committed (docs/decisions/copying.md).
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom

from client.backup.upload import MeteredSession
from client.copying.blobs import BlobCopier
from client.copying.documents import Copies, Parents
from client.copying.needed import Needed, needed
from client.copying.report import Copied, CopyListener, CopySummary, CopyTally
from client.errors import DamagedVault, ObjectMissing
from client.platforms.linux import give_back_large_buffers
from client.vault.pack_contents import still_damaged
from client.vault.repository import Vault, reason_unread
from client.vault.snapshots import Snapshot, newest_first
from domain.names import ObjectKind, ObjectName

_ROUND = 1 << 30  # plain bytes that no round before has copied, after which a round takes no further snapshot


@dataclass(frozen=True, slots=True)
class CopySession:
    """How the target is written to: a session of Purpose.BACKUP.

    What lies in packs that are `lost` is stored again. `locked` says that the target's lock file is held, as stores
    need that do not keep sessions apart; `ensure_locked` raises LockLost when that of either vault was lost.
    """

    lost: frozenset[ObjectName] = frozenset()
    locked: bool = False
    ensure_locked: Callable[[], None] = lambda: None


def copy_snapshots(
    source: Vault,
    target: Vault,
    wanted: Sequence[Snapshot],
    summary: CopySummary,
    *,
    session: CopySession = CopySession(),
    listener: CopyListener = CopyListener(),  # noqa: B008 - it is immutable
    random: Random | None = None,
) -> None:
    """Copy those of the snapshots `wanted` that `target` does not have, and fill `summary` as it goes.

    Where the target is known to have lost packs, what is lost of copies that it has is stored again. Raises StoreError
    and its kinds, after which the same copy goes on; HomeFull, HomeUnusable where temporary files find no room.
    """
    give_back_large_buffers()
    copies = Copies(target.snapshots(lambda name, error: _note(summary.unread_target, name, error)))
    for name, error in target.index.damaged.items():
        _note(summary.unread_target, name, error)
    oldest_first = newest_first(wanted)[::-1]
    present = {snapshot.id for snapshot in oldest_first if copies.has(snapshot)}
    summary.present = len(present - {one.snapshot.id for one in summary.copied})
    gone = still_damaged(target) | session.lost
    is_mending = bool(gone) or target.session.has_more_lost
    roots = [snapshot for snapshot in oldest_first if is_mending or snapshot.id not in present]
    if not roots:
        return
    target.index.leave_out(gone)
    parents = Parents(source.snapshots(lambda *_: None))  # which are told where the wanted ones are found
    metered = MeteredSession(target.session, target, session.ensure_locked)
    copier = BlobCopier(source, target, metered, locked=session.locked, random=random or SystemRandom())
    try:
        with needed(source, summary.unread_source.__setitem__, listener.looking) as need:
            commits = _Commits(source, target, metered, copies, parents)
            _Rounds(commits, copier, summary, listener, present).run(need, roots)
    finally:
        summary.new_bytes += copier.new_bytes
        summary.stored_bytes += copier.stored_bytes
        summary.uploaded_bytes += metered.uploaded()


@dataclass(frozen=True, slots=True)
class _Commits:
    """Copies of snapshots, made when all that they need is copied and listed."""

    source: Vault
    target: Vault
    session: MeteredSession
    copies: Copies
    parents: Parents

    def commit(self, snapshot: Snapshot) -> Copied | None:
        """None if the snapshot cannot be read any more. Raises StoreError."""
        try:
            document = self.copies.document(self.source, snapshot, self.parents)
        except (DamagedVault, ObjectMissing):
            return None
        name, sealed = self.target.seal_unpacked(ObjectKind.SNAPSHOT, document)
        self.session.commit(name, sealed)
        self.copies.add_document(document, name)
        return Copied(snapshot, name.id)


@dataclass(slots=True)
class _Rounds:
    """The rounds of one session; `present` are ids of snapshots that have copies, of which only blobs are mended."""

    commits: _Commits
    copier: BlobCopier
    summary: CopySummary
    listener: CopyListener
    present: Collection[str]
    _total: int = 0
    _done: int = 0  # snapshots
    _done_bytes: int = 0

    def run(self, need: Needed, roots: Sequence[Snapshot]) -> None:
        self._total = len(roots)
        waiting = deque(roots)
        while waiting:
            chosen: list[Snapshot] = []
            while waiting and need.size < _ROUND:
                chosen += self._add(need, [waiting.popleft()])
            # Of a blob that is lost only the walk tells who needs it; no blob is lost twice, so this ends.
            while not self.copier.copy(need, lambda done: self._advanced(done, need.size)):
                need.take_back()
                chosen = self._add(need, chosen)
            self._done_bytes += need.size
            need.settle()
            for snapshot in chosen:
                self._finish(snapshot)

    def _add(self, need: Needed, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Those of the snapshots that can be copied, marked as needed."""
        found = []
        for snapshot in snapshots:
            reason = need.add(snapshot)
            if reason:
                self._lose(snapshot, reason)
            else:
                found.append(snapshot)
        return found

    def _finish(self, snapshot: Snapshot) -> None:
        """All that a snapshot needs is in the target, and listed there."""
        if snapshot.id not in self.present:
            copied = self.commits.commit(snapshot)
            if copied is None:
                self._lose(snapshot, f"snapshots/{snapshot.id} is gone, or cannot be read any more")
                return
            self.summary.copied.append(copied)
            self.listener.copied(copied)
        self.summary.lost.pop(snapshot.id, None)  # where a session before could not read something
        self._done += 1
        self._advanced(0, 0)

    def _lose(self, snapshot: Snapshot, reason: str) -> None:
        if snapshot.id in self.present:
            reason = f"its copy may lack something, and is not mended: {reason}"
        self.summary.lost[snapshot.id] = reason
        self._done += 1

    def _advanced(self, done: int, total: int) -> None:
        """So many bytes of the round's are done."""
        uploaded = self.summary.uploaded_bytes + self.commits.session.uploaded()
        before = self._done_bytes
        self.listener.advanced(CopyTally(self._done, self._total, before + done, before + total, uploaded))


def _note(unread: dict[ObjectName, str], name: ObjectName, error: DamagedVault | ObjectMissing) -> None:
    unread[name] = reason_unread(error)
