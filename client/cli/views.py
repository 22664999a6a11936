"""How far a long action is: bars on a terminal, a line now and then elsewhere, JSON lines for scripts.

Kept true: standard output belongs to the result (and to JSON lines with --json); bars and lines go to standard error.
"""

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from client.cli.console import (
    duration_text,
    emit,
    error_fields,
    flush,
    note,
    path_fields,
    plural,
    printable,
    say,
    size_text,
)
from client.errors import OortError, OutputLost

if TYPE_CHECKING:
    from rich.progress import TaskID

    from client.backup.request import Tally
    from client.restore.request import RestoreTally
    from client.restore.request import Step as RestoreStep

_LINE_SECONDS = 10.0
_JSON_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is; totals may still grow until `is_final`. Sizes in bytes."""

    files: int = 0
    total_files: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    uploaded_bytes: int = 0
    is_final: bool = False


class View(ABC):
    """Takes what both engines tell while they work. Nothing that a terminal or a pipe refuses stops them."""

    def __init__(self) -> None:
        self.lost: OutputLost | None = None  # why standard output takes no more
        self._lock = threading.Lock()  # the index is read in any thread

    def index_read(self, done: int, total: int) -> None:
        """Files of the index that have been read, and that there are to read."""
        with self._going_on():
            self.index_step(done, total)

    def advanced(self, tally: "Tally | RestoreTally") -> None:
        with self._going_on():
            self.step(step_of(tally))

    def warned(self, path: bytes, reason: str) -> None:
        with self._going_on():
            self.warn("warning", path, reason)

    def damaged(self, path: bytes, reason: str) -> None:
        with self._going_on():
            self.warn("damaged", path, reason)

    def noted(self, text: str) -> None:
        """Something that the result does not depend on."""
        with self._going_on():
            self.remark(f"backup-tool: {printable(text)}")

    def failed(self, vault: str, error: OortError) -> None:
        """One of several vaults has no snapshot."""
        with self._going_on():
            self.failure(vault, error)

    def would(self, step: "RestoreStep", path: bytes) -> None:
        """A line of a dry run, which is a result."""
        with self._going_on():
            self.tell(step, path)

    def tell(self, step: "RestoreStep", path: bytes) -> None:
        say(f"{step}  {printable(os.fsdecode(path))}")

    def remark(self, line: str) -> None:
        note(line)

    def failure(self, vault: str, error: OortError) -> None:
        self.remark(f"backup-tool: no snapshot in the vault {printable(vault)}: {printable(str(error))}")

    @abstractmethod
    def index_step(self, done: int, total: int) -> None: ...

    @abstractmethod
    def step(self, step: Step) -> None: ...

    @abstractmethod
    def warn(self, kind: str, path: bytes, reason: str) -> None: ...

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except OutputLost as lost:
                self.lost = self.lost or lost
            except OSError:
                return  # a terminal that has gone: the result is told by the exit code

    def finish(self, write: Callable[[], None]) -> None:
        """Write the result. Raises OutputLost if any of the output was lost, ReaderGone."""
        if self.lost is not None:
            raise self.lost
        write()
        flush()

    def close(self) -> None:  # noqa: B027 - most views have nothing to put back
        """Leave the terminal as a person wants it."""


def step_of(tally: "Tally | RestoreTally") -> Step:
    from client.backup.request import Tally

    if isinstance(tally, Tally):
        return Step(
            files=tally.files_new + tally.files_changed + tally.files_unmodified,
            total_files=tally.total_files,
            done_bytes=tally.done_bytes,
            total_bytes=tally.total_bytes,
            uploaded_bytes=tally.uploaded_bytes,
            is_final=tally.scanned,
        )
    return Step(
        files=tally.files,
        total_files=tally.total_files,
        done_bytes=tally.done_bytes,
        total_bytes=tally.total_bytes,
        is_final=tally.planned,
    )


class JsonView(View):
    """JSON lines with `type` index, progress, warning, damaged or failed."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._last = self._started

    def index_step(self, done: int, total: int) -> None:
        self._emit("index", {"done": done, "total": total})

    def step(self, step: Step) -> None:
        self._emit("progress", asdict(step))

    def _emit(self, kind: str, fields: dict[str, object]) -> None:
        now = time.monotonic()
        if now - self._last >= _JSON_SECONDS:
            self._last = now
            emit({"type": kind, **fields, "seconds": round(now - self._started, 1)})

    def warn(self, kind: str, path: bytes, reason: str) -> None:
        emit({"type": kind, **path_fields(path), "reason": reason})

    def failure(self, vault: str, error: OortError) -> None:
        emit({"type": "failed", "vault": vault, **error_fields(error)})

    def tell(self, step: "RestoreStep", path: bytes) -> None:
        emit({"type": "would", "action": step.value, **path_fields(path)})


class LineView(View):
    """A line every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._last = self._started

    def index_step(self, done: int, total: int) -> None:
        self._note(f"index files: {done:,} of {total:,}")

    def step(self, step: Step) -> None:
        total = f" of {size_text(step.total_bytes)}" if step.is_final else ""
        self._note(f"{plural(step.files, 'file')}, {size_text(step.done_bytes)}{total}")

    def _note(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            note(f"{duration_text(now - self._started)}: {text}")

    def warn(self, kind: str, path: bytes, reason: str) -> None:  # noqa: ARG002 - people read the reason
        note(f"backup-tool: {printable(os.fsdecode(path))}: {printable(reason)}")


class TerminalView(View):
    """A bar with rate and time left; warnings stay above it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TextColumn("{task.fields[files]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, highlight=False, soft_wrap=True),
            transient=True,
        )
        self._title = title
        self._task: TaskID = self._progress.add_task(title, total=None, files="")
        self._progress.start()

    def index_step(self, done: int, total: int) -> None:
        self._progress.update(self._task, description=f"Reading the index, {done:,} of {total:,} files")

    def step(self, step: Step) -> None:
        total = step.total_bytes if step.is_final else None
        files = f"{step.files:,}/{step.total_files:,} files" if step.is_final else plural(step.files, "file")
        self._progress.update(self._task, description=self._title, completed=step.done_bytes, total=total, files=files)

    def warn(self, kind: str, path: bytes, reason: str) -> None:  # noqa: ARG002 - people read the reason
        self._progress.console.print(f"{printable(os.fsdecode(path))}: {printable(reason)}")

    def remark(self, line: str) -> None:
        self._progress.console.print(line)

    def close(self) -> None:
        with suppress(OSError):
            self._progress.stop()


@contextmanager
def view_of(title: str, *, as_json: bool) -> Iterator[View]:
    """The view that fits where standard error leads."""
    view: View = JsonView() if as_json else TerminalView(title) if sys.stderr.isatty() else LineView()
    try:
        yield view
    finally:
        view.close()


def index_lines(*, as_json: bool) -> Callable[[int, int], None] | None:
    """What tells of the reading of an index by lines on standard error; nothing does beside a result in JSON."""
    return None if as_json else LineView().index_read
