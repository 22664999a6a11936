"""A prune: what no snapshot needs goes.

Kept true: the mark is drawn first; then snapshots are listed, then index files, then packs. As long as anything that
decides is unreadable or missing, nothing is stored or removed. Then what goes without anything new; then new packs, new
index files, the old index files are condemned, then packs: each step is durable before the next begins, so whatever
ends a prune, the next finds all that any snapshot needs, and what is left over (docs/sessions.md, rules 9, 10 and 12;
docs/decisions/prune.md). A full store ends the new packs, and not the prune.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random, SystemRandom

from client.errors import DamagedVault, NoSnapshots, ObjectMissing
from client.reachability.findings import Progress
from client.reachability.marking import NEEDED, Marks, mark_needed
from client.reachability.scratch import in_scratch
from client.reachability.tables import ListingFile, PackTables
from client.retention.prune.choice import KEEP, REMOVE, REPACK, Choice, choose_packs
from client.retention.prune.duplicates import choose_copies
from client.retention.prune.limits import PruneLimits
from client.retention.prune.removal import Removal, unneeded_packs
from client.retention.prune.repacking import Repacking
from client.retention.prune.report import PruneReport
from client.retention.prune.rewriting import IndexFiles, Replacement
from client.vault.blobs import BlobId
from client.vault.pack_sizes import PackSizes
from client.vault.repository import Vault, reason_unread
from domain.names import ObjectKind, ObjectName


def prune(
    vault: Vault,
    limits: PruneLimits = PruneLimits(),  # noqa: B008 - it is immutable
    progress: Progress = lambda *_: None,
    *,
    ensure_locked: Callable[[], None] = lambda: None,
    random: Random | None = None,
) -> PruneReport:
    """Remove what no snapshot of the vault needs, in a session of Purpose.RETENTION that has drawn no mark.

    Where the store lets nothing go, nothing is stored either: the report says why. On a store without sessions of its
    own the caller holds restic's exclusive lock, and `ensure_locked` raises once that is lost. Raises StoreError, after
    which another prune goes on; NoRoomForIndex, after which one that repacks nothing may; HomeFull, HomeUnusable where
    temporary files find no room; DamagedVault if what was sealed anew does not open. An index that was read in this
    session before (`Vault.index`) is no longer that of the vault.
    """
    held = vault.session.mark()
    if held:  # to repack would store a second time what is needed, and free nothing
        report = PruneReport()
        report.refused.add("all packs and index files", held)
        return report
    with _study(vault, limits, progress, frozenset()) as study:
        if not study.report.problems:
            study.carry_out(ensure_locked, random or SystemRandom())
        return study.report


def plan_prune(
    vault: Vault,
    limits: PruneLimits = PruneLimits(),  # noqa: B008 - it is immutable
    progress: Progress = lambda *_: None,
    *,
    without: Collection[ObjectName] = frozenset(),
) -> PruneReport:
    """What `prune` would do if the snapshots `without` were removed. Draws no mark, stores nothing, removes nothing."""
    with _study(vault, limits, progress, frozenset(without)) as study:
        study.report.is_plan = True
        if not study.report.problems:
            study.foresee()
        return study.report


def _study(
    vault: Vault, limits: PruneLimits, progress: Progress, without: frozenset[ObjectName]
) -> AbstractContextManager["_Study"]:
    """Read all that decides, and decide."""
    return in_scratch(vault, partial(_studied, vault, limits, progress, without))


@contextmanager
def _studied(
    vault: Vault, limits: PruneLimits, progress: Progress, without: frozenset[ObjectName], scratch: Path | None
) -> Iterator["_Study"]:
    """With temporary files in `scratch`. Raises OSError."""
    report = PruneReport()
    roots = _read_snapshots(vault, report, without)
    listed = list(vault.session.list(ObjectKind.INDEX))
    with PackTables(PackSizes(vault.session.list(ObjectKind.PACK)), scratch) as tables:
        tables.fill(vault, listed, report.problems.add, progress)
        if not report.snapshots and len(tables):  # a pass never removes all: they were lost, or are elsewhere
            raise NoSnapshots(packs=len(tables))
        marks = mark_needed(vault, tables, roots, report.problems, progress=progress, scratch=scratch)
        choose_copies(vault, tables, marks, report.problems, progress)
        choice = choose_packs(tables, marks, limits, vault.config.version)
        yield _Study(vault, tables, marks, choice, report, progress)


def _read_snapshots(vault: Vault, report: PruneReport, without: frozenset[ObjectName]) -> list[tuple[str, BlobId]]:
    """The trees of all snapshots."""
    roots = []
    for info in list(vault.session.list(ObjectKind.SNAPSHOT)):
        if info.name in without:
            continue
        report.snapshots += 1
        try:
            roots.append((str(info.name), vault.load_snapshot(info.name).tree))
        except (DamagedVault, ObjectMissing) as error:
            report.problems.add(info.name, reason_unread(error))
    return roots


@dataclass(slots=True)
class _Study:
    """What was read of a vault and decided about it."""

    vault: Vault
    tables: PackTables
    marks: Marks
    choice: Choice
    report: PruneReport
    progress: Progress

    def __post_init__(self) -> None:
        report, choice = self.report, self.choice
        report.needed, report.unused, report.duplicate = choice.needed, choice.unused, choice.duplicate
        report.left, report.postponed_packs = choice.left, choice.postponed

    def foresee(self) -> None:
        """Fill the report of a plan."""
        gone = bytearray(action != KEEP for action in self.choice.actions)
        report, tables = self.report, self.tables
        for position in unneeded_packs(tables, gone):
            report.removed_packs += 1
            report.unlisted_packs += tables.row_at(position) is None
            report.freed_bytes += tables.sizes.size(position)
        report.repacked_packs = self.choice.actions.count(REPACK)
        report.kept_packs = self.choice.actions.count(KEEP)
        useless, others = self._index_files()
        report.replaced_index_files = len(useless) + len(Replacement(tables, gone, others).files)
        report.added_bytes = self.choice.moved.bytes

    def carry_out(self, ensure_locked: Callable[[], None], random: Random) -> None:
        """What goes without anything new; new packs, new index files, then the old ones are condemned."""
        choice, tables, report = self.choice, self.tables, self.report
        removal = Removal(self.vault.session, tables, report, ensure_locked, self.progress)
        useless, others = self._index_files()
        removal.condemn(useless, bytearray(action == REMOVE for action in choice.actions))  # may be what makes room
        index = IndexFiles(self.vault, ensure_locked)
        repacking = Repacking(self.vault, tables, self.marks, random, ensure_locked)
        for pack in repacking.run(choice, self.progress):
            index.add(pack)
        for row in repacking.unmoved:
            choice.keep(row, *self._unneeded_in(row))
        gone = bytearray(action != KEEP for action in choice.actions)
        for row, reason in repacking.failed.items():
            gone[row] = 0
            report.damaged.add(tables.pack(row), reason)
        replacement = Replacement(tables, gone, others)
        replacement.write(index)
        replacement.ensure_listed(row for row in range(len(gone)) if not gone[row])
        removal.condemn(replacement.files, gone)
        report.kept_packs = len(gone) - sum(gone)
        report.repacked_packs = sum(gone[row] for row in choice.rows(REPACK))
        report.unmoved_packs, report.full = len(repacking.unmoved), str(repacking.full or "")
        report.new_packs, report.new_index_files = repacking.packs, index.files
        report.added_bytes = repacking.bytes + index.bytes

    def _index_files(self) -> tuple[list[ListingFile], list[ListingFile]]:
        """Those of which every pack is to be removed, and the others."""
        actions = self.choice.actions
        useless = [all(actions[row] == REMOVE for row in file.rows) for file in self.tables.files]
        parted = list(zip(self.tables.files, useless, strict=True))
        return [file for file, goes in parted if goes], [file for file, goes in parted if not goes]

    def _unneeded_in(self, row: int) -> tuple[int, int]:
        """Blobs and bytes of a pack that no snapshot needs there."""
        numbers = self.tables.numbers(row)
        states = self.marks.states[numbers.start : numbers.stop]
        lengths = self.tables.lengths(row)
        unneeded = [length for length, state in zip(lengths, states, strict=True) if state != NEEDED]
        return len(unneeded), sum(unneeded)
