"""What the target has and the snapshot has not, below what was restored: listed first, removed when all else is done.

Kept true: only what lies in a folder that was backed up, as the snapshot's own paths say, and that the patterns take,
is removed; never a vault or a device's keys, nor anything in these, on a file system that is mounted below the target,
or in a folder whose list of files is lost. Nothing is removed unless everything could be restored.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.errors import DamagedVault, ObjectMissing, UsageError
from client.platforms.linux import open_folder
from client.restore.patterns import Wanted
from client.restore.request import Counters
from client.restore.selection import Patterns, Selection
from client.restore.target import is_partial
from client.restore.unfinished import MARKER
from client.restore.way import Identity, remove
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader


@dataclass(frozen=True, slots=True)
class Deletions:
    """Paths to be removed, as they would be in the snapshot, in the order of the walk; folders with all below them."""

    paths: Sequence[bytes]


def plan_deletions(
    vault: Vault, snapshot: Snapshot, target: Path, patterns: Patterns, protected: frozenset[Identity] = frozenset()
) -> Deletions:
    """What `target` has beyond the snapshot. Touches nothing. Raises UsageError, DamagedVault, StoreError."""
    walk = _Walk(TreeReader(vault), snapshot, Selection(patterns), protected)
    try:
        opened = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Deletions(())
    except OSError as error:
        raise UsageError(detail=f"cannot restore to {target}: {(error.strerror or str(error)).lower()}") from None
    try:
        walk.below(opened, b"", walk.trees.load(snapshot.tree))
    finally:
        os.close(opened)
    return Deletions(walk.extra)


def carry_out(
    deletions: Deletions, target: Path, patterns: Patterns, protected: frozenset[Identity], counters: Counters
) -> int:
    """Remove what was planned; answers how many paths went. What cannot be removed is told as a warning."""
    selection = Selection(patterns)
    removed = 0
    for path in deletions.paths:
        try:
            folder = _open_above(target, path)
        except OSError as error:
            counters.warn(path, f"not deleted: {(error.strerror or str(error)).lower()}")
            continue
        try:
            removed += remove(
                path.rpartition(b"/")[2],
                folder,
                protected,
                kept=lambda below: selection.look(below) is not Wanted.YES,
                path=path,
            )
        except FileNotFoundError:
            continue
        except OSError as error:
            counters.warn(path, f"not deleted: {(error.strerror or str(error)).lower()}")
        finally:
            os.close(folder)
    return removed


class _Walk:
    """Trees and folders, side by side."""

    def __init__(
        self, trees: TreeReader, snapshot: Snapshot, selection: Selection, protected: frozenset[Identity]
    ) -> None:
        self.trees = trees
        self.extra: list[bytes] = []
        self._selection = selection
        self._protected = protected
        self._roots = [os.fsencode(path).rstrip(b"/") for path in snapshot.paths]

    def below(self, opened: int, path: bytes, nodes: Sequence[Node]) -> None:
        known = {node.name for node in nodes}
        if self._was_backed_up(path):
            for name in sorted(set(map(os.fsencode, os.listdir(opened))) - known):
                is_ours = name == MARKER or is_partial(name)
                if not is_ours and self._selection.look(path + b"/" + name) is Wanted.YES:
                    self.extra.append(path + b"/" + name)
        for node in nodes:
            below = path + b"/" + node.name
            if node.type is not NodeType.DIR or node.subtree is None or self._selection.look(below) is Wanted.NO:
                continue
            try:
                inner = open_folder(node.name, opened)
            except OSError:
                continue  # nothing has its name, or what is no folder: the restore deals with it
            try:
                if self._is_entered(inner, opened):
                    self.below(inner, below, self.trees.load(node.subtree))
            except (DamagedVault, ObjectMissing):
                continue  # the restore names it, and then nothing at all is deleted
            finally:
                os.close(inner)

    def _is_entered(self, folder: int, above: int) -> bool:
        found = os.fstat(folder)
        return (found.st_dev, found.st_ino) not in self._protected and found.st_dev == os.fstat(above).st_dev

    def _was_backed_up(self, path: bytes) -> bool:
        return any(path == root or path.startswith(root + b"/") for root in self._roots)


def _open_above(target: Path, path: bytes) -> int:
    """Open the folder that `path` is in, following no link below the target. Raises OSError."""
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.split(b"/")[1:-1]:
        above = folder
        try:
            folder = open_folder(name, above)
            is_other = os.fstat(folder).st_dev != os.fstat(above).st_dev
        finally:
            os.close(above)
        if is_other:
            os.close(folder)
            raise OSError(errno.EXDEV, "another file system is mounted there")
    return folder
