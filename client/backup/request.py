"""What a backup is asked to do, what it says while it works, and what it answers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from client.backup.selection import EVERYTHING, Selection
from client.errors import OortError
from domain.names import ObjectName

if TYPE_CHECKING:
    from client.backup.stream import Stream
    from client.platforms.linux import Identity


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that is not in the snapshot, or not as it was, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """Which paths to back up, and what the snapshot says about them.

    `paths` are absolute or taken from the working folder. `time` is aware. `tags` hold the item and device
    (`oort:item=...`, `oort:device=...`). Folders that are `excluded` are left out with all that is in them;
    so is what the `selection` says. With a `stream` it is that which is backed up, as a file of the one path.
    """

    paths: tuple[bytes, ...]
    time: datetime
    hostname: str
    username: str
    tags: tuple[str, ...] = ()
    uid: int = 0
    gid: int = 0
    warnings: tuple[Warned, ...] = ()
    excluded: "frozenset[Identity]" = frozenset()
    selection: Selection = EVERYTHING
    stream: "Stream | None" = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a job is. All sizes in bytes.

    `total_files` and `total_bytes` are what the job has come to know so far; `scanned` says that they are final.
    """

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs: int = 0
    total_files: int = 0
    total_bytes: int = 0
    done_bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    uploaded_bytes: int = 0
    scanned: bool = False


class Progress(Protocol):
    """Hears how a job goes. Called from several threads, one call at a time; it must return soon."""

    def advanced(self, tally: Tally) -> None:
        """At most some times a second."""

    def warned(self, path: bytes, reason: str) -> None:
        """A path is missing from the snapshot, or is not as it was on the disk."""

    def noted(self, text: str) -> None:
        """Something went wrong that the snapshot does not depend on."""

    def committed(self, vault: int, snapshot: ObjectName) -> None:
        """The vault of that number, counted from 0, has its snapshot."""

    def failed(self, vault: int, error: OortError) -> None:
        """That vault gets no snapshot; the others may."""


class NoProgress:
    """Tells nobody."""

    def advanced(self, tally: Tally) -> None:
        """Nothing to say."""

    def warned(self, path: bytes, reason: str) -> None:
        """Nothing to say."""

    def noted(self, text: str) -> None:
        """Nothing to say."""

    def committed(self, vault: int, snapshot: ObjectName) -> None:
        """Nothing to say."""

    def failed(self, vault: int, error: OortError) -> None:
        """Nothing to say."""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup did for one vault; `snapshot` is its name in there. All sizes in bytes.

    Which files are new or changed is told by the snapshot that was compared with: of several vaults, the parent in the
    first that has one. `new_bytes` is the plain and `stored_bytes` the sealed size of the blobs that the vault did not
    have; `uploaded_bytes` is everything handed to its store, index and snapshot included. `warned` counts all warnings,
    of which `warnings` are the first.
    """

    snapshot: ObjectName
    parent: ObjectName | None
    tree: str
    files_new: int
    files_changed: int
    files_unmodified: int
    dirs: int
    total_files: int
    total_bytes: int
    new_bytes: int
    stored_bytes: int
    uploaded_bytes: int
    seconds: float
    warnings: tuple[Warned, ...] = ()
    warned: int = 0


KEPT_WARNINGS = 1000  # all are told as they come; a tree that cannot be read at all has millions


@dataclass(slots=True)
class Counters:
    """The running figures of one job, added to by all its threads."""

    progress: Progress
    uploaded: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    interval: float = 0.2  # seconds between two reports
    values: dict[str, int] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)
    warned: int = 0
    scanned: bool = False
    _reported: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **amounts: int) -> None:
        """Add to the named fields of Tally, and report if it is time."""
        with self._lock:
            values = self.values
            for name, amount in amounts.items():
                values[name] = values.get(name, 0) + amount
            now = self.monotonic()
            if now - self._reported >= self.interval:
                self._reported = now
                self.progress.advanced(self._tally())

    def warn(self, path: bytes, reason: str) -> None:
        with self._lock:
            self.warned += 1
            if len(self.warnings) < KEPT_WARNINGS:
                self.warnings.append(Warned(path, reason))
            self.progress.warned(path, reason)

    def note(self, text: str) -> None:
        """Tell what is no warning."""
        with self._lock:
            self.progress.noted(text)

    def committed(self, vault: int, snapshot: ObjectName) -> None:
        with self._lock:
            self.progress.committed(vault, snapshot)

    def failed(self, vault: int, error: OortError) -> None:
        with self._lock:
            self.progress.failed(vault, error)

    def report(self) -> Tally:
        """Report at once, and answer what was reported."""
        with self._lock:
            tally = self._tally()
            self.progress.advanced(tally)
            return tally

    def _tally(self) -> Tally:
        return Tally(**self.values, uploaded_bytes=self.uploaded(), scanned=self.scanned)
