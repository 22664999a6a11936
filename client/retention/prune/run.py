"""A prune: what no snapshot needs goes.

Kept true: the mark is drawn first; then snapshots are listed, then index files, then packs. As long as anything that
decides is unreadable or missing, nothing is stored or removed. Then new packs, new index files, the old index files are
condemned, then packs: each step is durable before the next begins, so whatever ends a prune, the next finds all that
any snapshot needs, and what is left over (docs/sessions.md, rules 9, 10 and 12; docs/decisions/prune.md).
"""

import errno
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random, SystemRandom

from client.errors import DamagedVault, HomeFull, HomeUnusable, NoSnapshots, ObjectMissing, StoreFull
from client.retention.prune.choice import KEEP, REPACK, Choice, choose_packs
from client.retention.prune.duplicates import choose_copies
from client.retention.prune.findings import Progress
from client.retention.prune.limits import PruneLimits
from client.retention.prune.marking import Marks, mark_needed
from client.retention.prune.removal import Removal, unneeded_packs
from client.retention.prune.repacking import Repacking
from client.retention.prune.report import PruneReport
from client.retention.prune.rewriting import IndexFiles, Replacement
from client.retention.prune.tables import PackTables
from client.stores.abc import ObjectInfo
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

    On a store without sessions of its own the caller holds restic's exclusive lock, and `ensure_locked` raises once
    that is lost. Raises StoreError, after which another prune goes on; HomeFull, HomeUnusable where temporary files
    find no room; DamagedVault if what was sealed anew does not open. An index that was read in this session before
    (`Vault.index`) is no longer that of the vault.
    """
    vault.session.mark()
    random = random or SystemRandom()
    try:
        return _prune(vault, limits, progress, ensure_locked, random)
    except StoreFull:
        if limits.repack_bytes == 0:
            raise
        # No room to repack: packs of which nothing is needed can go all the same, with what was just put in vain.
        return _prune(vault, replace(limits, repack_bytes=0), progress, ensure_locked, random)


def _prune(
    vault: Vault, limits: PruneLimits, progress: Progress, ensure_locked: Callable[[], None], random: Random
) -> PruneReport:
    with _study(vault, limits, progress, frozenset()) as study:
        if not study.report.problems:
            study.carry_out(ensure_locked, random)
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


@contextmanager
def _study(vault: Vault, limits: PruneLimits, progress: Progress, without: frozenset[ObjectName]) -> Iterator["_Study"]:
    """Read all that decides, and decide."""
    report = PruneReport()
    roots = _read_snapshots(vault, report, without)
    scratch = _scratch(vault)
    with _told(scratch):
        listed = list(vault.session.list(ObjectKind.INDEX))
        with PackTables(PackSizes(vault.session.list(ObjectKind.PACK)), scratch) as tables:
            _read_index(vault, listed, tables, report, progress)
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


def _read_index(
    vault: Vault, listed: list[ObjectInfo], tables: PackTables, report: PruneReport, progress: Progress
) -> None:
    for done, info in enumerate(listed):
        progress("index files", done, len(listed))
        try:
            tables.add_file(info.name, info.size, vault.read_index_file(info.name).packs)
        except (DamagedVault, ObjectMissing) as error:
            report.problems.add(info.name, reason_unread(error))
    tables.finish()


def _scratch(vault: Vault) -> Path | None:
    return vault.cache_folder if vault.cache_folder is not None and vault.cache_folder.is_dir() else None


@contextmanager
def _told(scratch: Path | None) -> Iterator[None]:
    """Say where temporary files find no room."""
    try:
        yield
    except OSError as error:
        place = scratch or Path(tempfile.gettempdir())
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeFull(home=place) from None
        raise HomeUnusable(home=place, reason=error.strerror or str(error)) from None


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
        for name, size in unneeded_packs(tables, gone, bytearray(len(gone))):
            report.removed_packs += 1
            report.unlisted_packs += not tables.lists(name)
            report.freed_bytes += size
        report.repacked_packs = self.choice.actions.count(REPACK)
        report.kept_packs = self.choice.actions.count(KEEP)
        report.replaced_index_files = len(Replacement(tables, gone).files)
        report.added_bytes = self.choice.moved.bytes

    def carry_out(self, ensure_locked: Callable[[], None], random: Random) -> None:
        """New packs, new index files, then the old ones are condemned."""
        choice, tables, report = self.choice, self.tables, self.report
        index = IndexFiles(self.vault, ensure_locked)
        repacking = Repacking(self.vault, tables, self.marks, random, ensure_locked)
        for pack in repacking.run(choice, self.progress):
            index.add(pack)
        gone = bytearray(action != KEEP for action in choice.actions)
        for row, reason in repacking.failed.items():
            gone[row] = 0
            report.damaged.add(tables.pack(row), reason)
        replacement = Replacement(tables, gone)
        replacement.write(index)
        replacement.ensure_listed(row for row in range(len(gone)) if not gone[row])
        removal = Removal(self.vault.session, report, ensure_locked, self.progress)
        kept = removal.condemn_index_files(tables, replacement.files, replacement.spare)
        removal.condemn_packs(tables, gone, kept)
        report.kept_packs = len(gone) - sum(gone)
        report.repacked_packs = choice.actions.count(REPACK) - len(repacking.failed)
        report.new_packs, report.new_index_files = repacking.packs, index.files
        report.added_bytes = repacking.bytes + index.bytes
