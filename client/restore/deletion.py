"""What the target has and the snapshot has not, below what was restored: listed first, removed when all else is done.

Kept true: only what lies in a folder that was backed up, as the snapshot's own paths say, and that the patterns take,
is removed; never a vault or a device's keys, nor anything in these, on a file system that is mounted below the target,
or in a folder whose list of files is lost. The folder keeps its times. Nothing is removed unless everything could be
restored.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.errors import DamagedVault, ObjectMissing, UsageError, reason_of
from client.platforms.linux import Identity, identity_of, open_folder
from client.restore.descent import Descent
from client.restore.patterns import Wanted
from client.restore.request import Counters
from client.restore.selection import Patterns, Selection
from client.restore.target import is_partial
from client.restore.unfinished import MARKER
from client.restore.way import remove
from client.vault.blobs import BlobId
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
        raise _refused(target, error) from None
    try:
        walk.run(opened, snapshot.tree)
    except OSError as error:
        raise _refused(target, error) from None
    finally:
        os.close(opened)
    return Deletions(walk.extra)


def _refused(target: Path, error: OSError) -> UsageError:
    return UsageError(detail=f"cannot restore to {target}: {reason_of(error)}")


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
            counters.warn(path, f"not deleted: {reason_of(error)}")
            continue
        found = os.fstat(folder)
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
            counters.warn(path, f"not deleted: {reason_of(error)}")
        finally:
            with contextlib.suppress(OSError):  # of a folder of somebody else's, which has no times of the snapshot
                os.utime(folder, ns=(found.st_atime_ns, found.st_mtime_ns))
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
        self._roots = frozenset(os.fsencode(path).rstrip(b"/") for path in snapshot.paths)

    def run(self, opened: int, root: BlobId) -> None:
        """Look through the open folder and all that it shares with the snapshot. Raises OSError."""
        with Descent(opened) as here:
            stack = [self._look(here, b"", self.trees.load(root))]
            while stack:
                path, folders = stack[-1]
                node = next(folders, None)
                if node is None:
                    stack.pop()
                    if stack:
                        here.leave()
                    continue
                below = path + b"/" + node.name
                nodes = self._enter(here, node)
                if nodes is not None:
                    stack.append(self._look(here, below, nodes))

    def _look(self, here: Descent, path: bytes, nodes: Sequence[Node]) -> tuple[bytes, Iterator[Node]]:
        """Note what is in the folder beyond `nodes`; answers those of them that are to be entered, after the path."""
        known = {node.name for node in nodes}
        if self._was_backed_up(path):
            for name in sorted(set(map(os.fsencode, os.listdir(here.folder))) - known):
                is_ours = name == MARKER or is_partial(name)
                if not is_ours and self._selection.look(path + b"/" + name) is Wanted.YES:
                    self.extra.append(path + b"/" + name)
        folders = [
            node
            for node in nodes
            if node.type is NodeType.DIR
            and node.subtree is not None
            and self._selection.look(path + b"/" + node.name) is not Wanted.NO
        ]
        return path, iter(folders)

    def _enter(self, here: Descent, node: Node) -> list[Node] | None:
        """Go into a folder that both have; what the snapshot has in it, or None if it is not to be entered."""
        above = here.found
        try:
            here.enter(node.name)
        except OSError:
            return None  # nothing has its name, or what is no folder: the restore deals with it
        found = here.found
        try:
            if node.subtree and identity_of(found) not in self._protected and found.st_dev == above.st_dev:
                return self.trees.load(node.subtree)
        except (DamagedVault, ObjectMissing):
            pass  # the restore names it, and then nothing at all is deleted
        here.leave()
        return None

    def _was_backed_up(self, path: bytes) -> bool:
        ends = (*(at for at, byte in enumerate(path) if byte == ord("/")), len(path))
        return any(path[:end] in self._roots for end in ends)


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
