"""A restore, from a snapshot to files.

Kept true: what the vault still has is restored, whatever else it has lost, and each path that is not there is named;
no file is under its own name with wrong content, whenever and however the restore ends.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.errors import OortError
from client.flow import ByteQueue, Crew
from client.platforms.linux import create_file, make_special, open_within, write_all
from client.platforms.nodes import write_metadata, write_metadata_at
from client.restore.fetch import Fetcher
from client.restore.patterns import Includes, NothingMatches
from client.restore.plan import Finish, MakeLink, MakeSpecial, Planner, Window
from client.restore.request import Counters, NoProgress, Progress, RestoreSummary
from client.restore.target import Target
from client.restore.write import FileWriter
from client.stores.abc import StoreSession
from client.vault.modes import NodeType
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader

_COPIED = 1 << 20  # bytes at once, where a hard link has to become a copy


def restore(
    vault: Vault,
    session: StoreSession,
    snapshot: Snapshot,
    target: Path,
    includes: Sequence[str] = (),
    *,
    progress: Progress | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> RestoreSummary:
    """Restore what `includes` take of `snapshot` into `target`, a new or empty folder.

    Damaged and missing parts are named in the summary, whose `exit_code` says so. Raises UsageError for a target that
    is not empty or a pattern that is none, NothingMatches if no path matches, TargetFull, DamagedVault if the
    snapshot's root is lost, StoreError.
    """
    wanted = Includes(includes)
    place = Target(target)
    place.prepare()
    try:
        counters = Counters(progress or NoProgress(), monotonic)
        return _Restore(vault, session, place, wanted, patterns=includes, counters=counters).run(snapshot)
    except OortError:
        place.remove_if_untouched()
        raise
    finally:
        place.close()


class _Restore:
    """The parts of one restore, wired together."""

    def __init__(
        self,
        vault: Vault,
        session: StoreSession,
        target: Target,
        includes: Includes,
        *,
        patterns: Sequence[str],
        counters: Counters,
    ) -> None:
        self._patterns = patterns
        self._session = session
        self._target = target
        self._crew = Crew()
        self._counters = counters
        self._writer = FileWriter(target, self._counters)
        self._fetcher = Fetcher(self._crew, vault, self._writer)
        self._windows: ByteQueue[Window] = ByteQueue(self._crew, 1)
        self._planner = Planner(TreeReader(vault), vault.index, includes, self._counters, self._hand_out)

    def run(self, snapshot: Snapshot) -> RestoreSummary:
        started = self._counters.monotonic()
        try:
            self._crew.start("plan", lambda: self._plan(snapshot))
            self._fetcher.start()
            while (window := self._windows.get()) is not None:
                self._carry_out(window)
            self._fetcher.close()
            self._crew.wait()
        except BaseException as error:  # noqa: BLE001 - raised again below, when all threads have ended
            self._crew.fail(error)
            self._end()
        self._crew.check()
        if self._patterns and not self._planner.found_any and not self._counters.losses:
            raise NothingMatches(snapshot=snapshot.short_id, patterns=" or ".join(self._patterns))
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
        )

    def _plan(self, snapshot: Snapshot) -> None:
        self._planner.plan(self._target.root, snapshot.tree)
        self._windows.close()

    def _hand_out(self, window: Window) -> None:
        self._windows.put(window, 1)

    def _end(self) -> None:
        """End all threads, then take away the files that are not whole."""
        self._crew.end(self._session.close)
        self._writer.abandon()

    def _carry_out(self, window: Window) -> None:
        for file in window.begin:
            self._writer.begin(file)
        self._fetcher.fetch(window.pieces)
        for action in window.after:
            self._crew.ensure_running()
            path = action.folder.path if isinstance(action, Finish) else action.path
            try:
                if isinstance(action, Finish):
                    complaints = self._finish(action)
                elif isinstance(action, MakeSpecial):
                    complaints = self._make_special(action)
                else:
                    complaints = self._make_link(action)
            except OSError as error:
                self._target.fail_if_unusable(error)
                complaints = [f"not restored: {(error.strerror or str(error)).lower()}"]
            for complaint in complaints:
                self._counters.warn(path, complaint)

    def _finish(self, action: Finish) -> list[str]:
        folder = action.folder
        if folder.node is None or not (action.wanted or folder.made):
            return []
        with self._target.opened(folder) as opened:
            complaints = write_metadata(folder.node, opened)
        self._counters.add(dirs=1)
        return complaints

    def _make_special(self, action: MakeSpecial) -> list[str]:
        node = action.node
        with self._target.opened(action.folder) as folder:
            if node.type is NodeType.SYMLINK:
                os.symlink(node.linktarget, node.name, dir_fd=folder)
            else:
                make_special(node.name, folder, node.unix_mode & ~0o7777 | 0o600, node.device)
            complaints = write_metadata_at(node, folder)
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
        with self._target.opened(first.folder) as source, self._target.opened(action.folder) as folder:
            try:
                os.link(first.node.name, action.node.name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            except OSError:
                return self._copy(action, source, folder)
        self._counters.add(others=1)
        return []

    def _copy(self, action: MakeLink, source: int, folder: int) -> list[str]:
        """Where the target has no hard links, or no more of them, the file is there twice."""
        partial = self._target.partial_name()
        with contextlib.ExitStack() as stack:
            original = open_within(action.first.node.name, source)
            stack.callback(os.close, original)
            copy = create_file(partial, folder)
            stack.callback(os.close, copy)
            try:
                offset = 0
                while content := os.pread(original, _COPIED, offset):
                    write_all(copy, content, offset)
                    offset += len(content)
                complaints = write_metadata(action.node, copy)
                os.rename(partial, action.node.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(partial, dir_fd=folder)
                raise
        self._counters.add(others=1)
        return complaints
