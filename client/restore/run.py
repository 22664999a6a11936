"""A restore, from a snapshot to files.

Kept true: what the vault still has is restored, whatever else it has lost, and each path that is not there is named;
no file is under its own name with wrong content, whenever and however the restore ends: what has that name before
keeps it until then.
"""

import contextlib
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from client.errors import OortError, TargetFull, reason_of
from client.flow import ByteQueue, Crew
from client.platforms.linux import create_file, make_special, open_within, write_all
from client.platforms.nodes import replace_metadata, write_metadata, write_metadata_at
from client.restore.deletion import Deletions, carry_out
from client.restore.fetch import Batch, Fetcher
from client.restore.patterns import NothingMatches
from client.restore.plan import Action, Finish, MakeLink, MakeSpecial, Planner, Window
from client.restore.present import Judge
from client.restore.processes import Processes
from client.restore.readback import read_back
from client.restore.request import Counters, NoProgress, Overwrite, Progress, RestoreOptions, RestoreSummary, Step
from client.restore.selection import Selection
from client.restore.target import Target
from client.restore.unfinished import Unfinished
from client.restore.way import give_name
from client.restore.write import FileWriter
from client.stores.abc import StoreSession
from client.vault.modes import NodeType
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader

_AHEAD = 1  # windows that are begun before the one before them is completed
_COLLECTED = 50_000  # objects made since the last look for garbage in cycles
_COPIED = 1 << 20  # bytes at once, where a hard link has to become a copy
_WORTH_PROCESSES = 1000  # small files that are planned: to start one takes as long as writing that many


def restore(
    vault: Vault,
    session: StoreSession,
    snapshot: Snapshot,
    target: Path,
    options: RestoreOptions | None = None,
    *,
    deletions: Deletions | None = None,
    progress: Progress | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> RestoreSummary:
    """Restore what `options` take of `snapshot` into `target`.

    Unless something is to be overwritten, the target is a new or empty folder, or one that holds the same restore
    unfinished, which is gone on with. `deletions` come last, and only if nothing is lost. Damaged and missing parts
    are named in the summary, whose `exit_code` says so. Raises UsageError for another target or a pattern that is none,
    NothingMatches if no path matches, TargetFull, DamagedVault if the snapshot's root is lost, StoreError.
    """
    options = options or RestoreOptions()
    selection = Selection(options.patterns)
    place = Target(target, Unfinished(snapshot.id, options.patterns.scope))
    overwriting = options.overwrite is not None
    try:
        if options.dry_run:
            place.inspect(overwriting=overwriting)
        else:
            place.prepare(overwriting=overwriting)
        counters = Counters(progress or NoProgress(), monotonic)
        work = _Restore(vault, session, place, selection, options=options, counters=counters)
        with _few_collections():
            return work.run(snapshot, deletions or Deletions(()))
    except OortError:
        place.remove_if_untouched()
        raise
    finally:
        place.close()


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Look for garbage in cycles more rarely: a window is many objects, and no garbage before it is done."""
    usual = gc.get_threshold()
    gc.set_threshold(_COLLECTED, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class _Restore:
    """The parts of one restore, wired together."""

    def __init__(
        self,
        vault: Vault,
        session: StoreSession,
        target: Target,
        selection: Selection,
        *,
        options: RestoreOptions,
        counters: Counters,
    ) -> None:
        self._selection = selection
        self._options = options
        self._session = session
        self._target = target
        self._crew = Crew()
        self._counters = counters
        self._writer = FileWriter(target, counters)
        self._processes = Processes(self._crew, vault.keys, target, self._writer)
        self._fetcher = Fetcher(self._crew, vault, self._writer, self._processes)
        self._windows: ByteQueue[Window] = ByteQueue(self._crew, 1)
        overwrite = options.overwrite or Overwrite.IF_CHANGED
        self._planner = Planner(
            TreeReader(vault),
            vault.index,
            selection,
            counters,
            Judge(target, self._writer, counters, overwrite, protected=options.protected, dry_run=options.dry_run),
            hand_out=self._hand_out,
            verify=options.verify,
        )

    def run(self, snapshot: Snapshot, deletions: Deletions) -> RestoreSummary:
        started = self._counters.monotonic()
        try:
            self._crew.start("plan", lambda: self._plan(snapshot))
            self._fetcher.start()
            begun: deque[tuple[Window, Batch]] = deque()
            while (window := self._windows.get()) is not None:
                begun.append((window, self._begin(window)))
                if len(begun) > _AHEAD:
                    self._complete(*begun.popleft())
            while begun:
                self._complete(*begun.popleft())
            self._fetcher.close()
            self._crew.wait()
        except BaseException as error:  # noqa: BLE001 - raised again below, when all threads have ended
            self._crew.fail(error)
            self._end()
        self._processes.close()
        including = self._selection.including
        if including and not self._planner.found_any and not self._counters.losses:
            raise NothingMatches(snapshot=snapshot.short_id, patterns=" or ".join(including))
        deleted = self._delete(deletions)
        if not self._options.dry_run:
            self._target.finish()
        tally = self._counters.report()
        return RestoreSummary(
            files=tally.files,
            dirs=tally.dirs,
            others=tally.others,
            bytes=tally.done_bytes,
            fetched_bytes=self._fetcher.fetched_bytes,
            seconds=self._counters.monotonic() - started,
            warnings=tuple(self._counters.warnings),
            damaged=tuple(self._counters.losses),
            warned=self._counters.warned,
            lost=self._counters.lost,
            same=tally.same,
            left=tally.left,
            resumed=self._target.is_resumed,
            deleted=deleted,
        )

    def _delete(self, deletions: Deletions) -> int:
        if self._options.dry_run:
            for path in deletions.paths:
                self._counters.would(Step.DELETE, path)
            return len(deletions.paths)
        if deletions.paths and (self._counters.lost or self._counters.warned):
            self._counters.warn(b"/", "nothing was deleted, because not everything could be restored as it was")
            return 0
        options = self._options
        return carry_out(deletions, self._target.path, options.patterns, options.protected, self._counters)

    def _plan(self, snapshot: Snapshot) -> None:
        self._planner.plan(self._target.root, snapshot.tree)
        self._windows.close()

    def _hand_out(self, window: Window) -> None:
        if not self._options.dry_run:
            self._windows.put(window, 1)

    def _end(self) -> None:
        """End all threads and processes, and raise what failed.

        Files that are not whole are kept, to be gone on with, unless it is room that lacks.
        """
        try:
            self._crew.end(self._processes.kill, self._session.close)
        finally:
            self._processes.kill()
        try:
            self._crew.check()
        except TargetFull:
            self._writer.abandon(keep=False)
            raise
        except BaseException:
            self._writer.abandon(keep=True)
            raise

    def _begin(self, window: Window) -> Batch:
        """Have the pieces of a window written."""
        if self._planner.small_files >= _WORTH_PROCESSES:
            self._processes.start()
        for file in window.begin:
            self._writer.begin(file)
        return self._fetcher.fetch(window.pieces)

    def _complete(self, window: Window, batch: Batch) -> None:
        """Do what comes after the pieces of a window, while those of the next one are written."""
        self._fetcher.wait(batch)
        for action in window.after:
            self._crew.ensure_running()
            path = action.folder.path if isinstance(action, Finish) else action.path
            try:
                complaints = self._do(action)
            except OSError as error:
                self._target.fail_if_unusable(error)
                complaints = [f"not restored: {reason_of(error)}"]
            for complaint in complaints:
                self._counters.warn(path, complaint)

    def _do(self, action: Action) -> list[str]:
        """Carry out what comes after the pieces; answers complaints. Raises OSError."""
        if isinstance(action, Finish):
            return self._finish(action)
        if isinstance(action, MakeSpecial):
            return self._make_special(action)
        if isinstance(action, MakeLink):
            return self._make_link(action)
        read_back(self._target, self._writer, action.file, action.pieces)
        return []

    def _finish(self, action: Finish) -> list[str]:
        folder = action.folder
        if folder.node is None or not (action.wanted or (folder.made and not folder.found)):
            return []
        with self._target.opened(folder) as opened:
            complaints = (replace_metadata if folder.found else write_metadata)(folder.node, opened)
        self._counters.add(dirs=1)
        return complaints

    def _make_special(self, action: MakeSpecial) -> list[str]:
        node = action.node
        made = action.folder.partial_name(node.name) if action.replaces else node.name
        with self._target.opened(action.folder) as folder:
            if node.type is NodeType.SYMLINK:
                os.symlink(node.linktarget, made, dir_fd=folder)
            else:
                make_special(made, folder, node.unix_mode & ~0o7777 | 0o600, node.device)
            complaints = write_metadata_at(node, made, folder)
            if action.replaces:
                with _removed_on_failure(made, folder):
                    give_name(made, node.name, folder)
        self._counters.add(others=1)
        return complaints

    def _make_link(self, action: MakeLink) -> list[str]:
        first = action.first
        if not first.done:
            other = os.fsdecode(first.path)
            if not first.lost:
                return [f"not restored: neither was {other}, which is the same file"]
            self._counters.lose(action.path, f"it is the same file as {other}, which is lost")
            return []
        name = action.node.name
        made = action.folder.partial_name(name) if action.replaces else name
        with self._target.opened(first.folder) as source, self._target.opened(action.folder) as folder:
            if action.replaces and _is_same_file(first.node.name, source, name, folder):
                self._counters.add(others=1)
                return []
            try:
                os.link(first.node.name, made, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            except OSError:
                return self._copy(action, source, folder)
            if action.replaces:
                with _removed_on_failure(made, folder):
                    give_name(made, name, folder)
        self._counters.add(others=1)
        return []

    def _copy(self, action: MakeLink, source: int, folder: int) -> list[str]:
        """Where the target has no hard links, or no more of them, the file is there twice."""
        partial = action.folder.partial_name(action.node.name)
        with contextlib.ExitStack() as stack:
            original = open_within(action.first.node.name, source)
            stack.callback(os.close, original)
            copy = create_file(partial, folder)
            stack.callback(os.close, copy)
            with _removed_on_failure(partial, folder):
                offset = 0
                while content := os.pread(original, _COPIED, offset):
                    write_all(copy, content, offset)
                    offset += len(content)
                complaints = write_metadata(action.node, copy)
                give_name(partial, action.node.name, folder)
        self._counters.add(others=1)
        return complaints


@contextlib.contextmanager
def _removed_on_failure(name: bytes, folder: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def _is_same_file(name: bytes, folder: int, other: bytes, other_folder: int) -> bool:
    one = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return os.path.samestat(one, os.stat(other, dir_fd=other_folder, follow_symlinks=False))
