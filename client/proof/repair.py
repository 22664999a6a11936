"""`repair`: a vault that has lost something loses no more than that.

Kept true: nothing is done before somebody has seen what was found. First what is left of damaged packs is saved and the
index made anew (index_rewrite.py); then each snapshot that has lost something gets another beside it, without the lost
files. The original stays, unless it is to be forgotten, and then goes last. Whatever interrupts a repair, all that
could be restored before can be restored after, and the same command again does what is left to do.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from client.errors import ObjectMissing, SnapshotInUse
from client.proof.index_rewrite import Rewritten, rewrite_index
from client.proof.rebuild import Finding, index_read_anew, settle_doubts
from client.proof.remains import Remains
from client.proof.survey import Progress, Survey
from client.vault.damage import Damage
from client.vault.known_lengths import KnownLengths
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, decode_snapshot, repaired_document
from client.vault.tree_check import Touched, TreeCheck
from domain.names import ObjectKind, ObjectName

if TYPE_CHECKING:
    from client.vault.index import Index


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: make the index anew; repair snapshots.

    Of `hopeless` ones nothing is left, as the list of their first folder is lost; `unreadable` are damaged themselves.
    """

    makes_index: bool
    snapshots: Sequence[Snapshot] = ()
    hopeless: Sequence[ObjectName] = ()
    unreadable: Sequence[ObjectName] = ()

    def __bool__(self) -> bool:
        return self.makes_index or bool(self.snapshots)


@dataclass(slots=True)
class Repaired:
    """What was done: the index, if it was made anew; snapshots and those they were repaired from.

    `before` were repaired by an earlier run; `forgotten` are originals that were removed, `in_use` those that could not
    be, as running backups build on them.
    """

    index: Rewritten | None = None
    snapshots: list[tuple[Snapshot, ObjectName]] = field(default_factory=list)
    before: list[tuple[Snapshot, ObjectName]] = field(default_factory=list)
    forgotten: list[ObjectName] = field(default_factory=list)
    in_use: list[ObjectName] = field(default_factory=list)


class Repair:
    """One repair, in a session of retention, under the exclusive lock where there are locks."""

    def __init__(
        self,
        vault: Vault,
        *,
        tell: Callable[[Finding], None] = lambda _: None,
        touched: Callable[[Touched], None] = lambda _: None,
        progress: Progress = lambda *_: None,
        ensure_locked: Callable[[], None] = lambda: None,
    ) -> None:
        """`tell` gets what is wrong with packs and index files, `touched` what of which snapshots is lost by it."""
        self._vault = vault
        self._tell = tell
        self._touched = touched
        self._progress = progress
        self._ensure_locked = ensure_locked
        self._open = ExitStack()
        self._index: Index | None = None
        self._survey: Survey | None = None
        self._names: list[ObjectName] = []  # of snapshots
        self._files: list[ObjectName] = []  # of the old index
        self._plan = Plan(makes_index=False)

    def look(self) -> Plan:
        """Find out what is wrong; nothing is changed. Raises StoreError."""
        vault = self._vault
        vault.session.mark()
        self._names = [info.name for info in vault.session.list(ObjectKind.SNAPSHOT)]
        index = self._index = self._open.enter_context(index_read_anew(vault, self._tell, self._progress))
        self._files = list(index.files)
        lengths = self._open.enter_context(KnownLengths(index, vault.cache_folder))
        survey = Survey(vault, index, vault.doubts.all(), read_headers=True, progress=self._progress)
        self._survey = survey
        for finding in survey.run(lambda _, entries: lengths.add(entries)):
            self._tell(finding)
        trees = TreeCheck(vault, index, lengths, survey.damage, self._progress)
        _walk(trees, self._names)
        for finding in survey.run_again():
            self._tell(finding)
        for touch in trees.touches():
            self._touched(touch)
        hopeless = [_name(one) for one in trees.touched_snapshots if trees.is_lost(one.tree)]
        left = [one for one in trees.touched_snapshots if not trees.is_lost(one.tree)]
        makes_index = bool(survey) or bool(index.damaged)
        self._plan = Plan(makes_index, left, hopeless, trees.unreadable)
        return self._plan

    def carry_out(self, *, forgets: bool) -> Repaired:
        """Do what was planned; with `forgets` remove the originals too. Raises DamagedVault, StoreError, LockLost."""
        if self._index is None or self._survey is None:
            raise AssertionError("a repair looks before it acts")
        done = Repaired()
        vault = self._vault
        if self._plan.makes_index:
            done.index = rewrite_index(vault, self._index, self._survey, self._files, self._ensure_locked)
            settle_doubts(vault, self._survey)
        if self._plan.snapshots:
            with vault.in_session(vault.session) as anew:
                self._mend_snapshots(anew, done)
        if forgets:
            originals = [original for _, original in (*done.snapshots, *done.before)]
            for name in (*originals, *self._plan.hopeless, *self._plan.unreadable):
                self._forget(name, done)
        return done

    def _mend_snapshots(self, anew: Vault, done: Repaired) -> None:
        """`anew` is the vault with its new index, by which alone is judged what is lost."""
        with KnownLengths(anew.index, anew.cache_folder) as lengths:
            for _, entries in anew.index.packs():
                lengths.add(entries)
            trees = TreeCheck(anew, anew.index, lengths, Damage(anew.index), self._progress)
            _walk(trees, self._names)
            remains = Remains(anew, trees, self._ensure_locked)
            left = [one for one in trees.touched_snapshots if not trees.is_lost(one.tree)]
            made = [(snapshot, remains.tree(snapshot.tree)) for snapshot in left]
            remains.finish()
            known = {(one.repaired_from, one.tree): one for one in anew.snapshots(lambda *_: None)}
            for old, tree in made:
                before = known.get((old.id, tree))
                if before is not None:
                    done.before.append((before, _name(old)))
                    continue
                document = repaired_document(anew.load_unpacked(_name(old)), old, tree)
                name, body = anew.seal_unpacked(ObjectKind.SNAPSHOT, document)
                self._ensure_locked()
                anew.session.commit(name, body)
                done.snapshots.append((decode_snapshot(document, name.id), _name(old)))

    def _forget(self, name: ObjectName, done: Repaired) -> None:
        self._ensure_locked()
        try:
            self._vault.session.remove(name)
        except SnapshotInUse:
            done.in_use.append(name)
        except ObjectMissing:
            pass  # it was unreadable because it is not there
        else:
            done.forgotten.append(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _name(snapshot: Snapshot) -> ObjectName:
    return ObjectName(ObjectKind.SNAPSHOT, snapshot.id)


def _walk(trees: TreeCheck, snapshots: Sequence[ObjectName]) -> None:
    """Have all snapshots walked over; what restic would write otherwise is no matter here."""
    for _ in trees.run(snapshots):
        pass
