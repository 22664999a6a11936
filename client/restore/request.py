"""What a restore is asked for, what it says while it works, and what it answers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from client.errors import WARNINGS_EXIT_CODE, DamagedVault
from client.restore.selection import Patterns

if TYPE_CHECKING:
    from client.platforms.linux import Identity


class Overwrite(StrEnum):
    """When something in the target gives way to what the snapshot has by its name."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"  # unless size and time are the same
    IF_NEWER = "if-newer"  # if the snapshot's was modified later
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What is restored and how.

    Without `overwrite` the target must be new, empty, or hold the same restore unfinished.
    What is `protected` (vaults, the device's home) is neither removed nor restored into.
    """

    patterns: Patterns = field(default_factory=Patterns)
    overwrite: Overwrite | None = None
    dry_run: bool = False
    verify: bool = False
    protected: "frozenset[Identity]" = frozenset()


class ArchiveFormat(StrEnum):
    """The archives there are."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_ZST = "tar.zst"
    ZIP = "zip"


class Step(StrEnum):
    """What a dry run says of a path."""

    CREATE = "create"
    REPLACE = "replace"  # what has its name, taking over what of it is right already
    UPDATE = "update"  # its mode, owner, times or attributes; its content is right already
    DELETE = "delete"  # what the snapshot has not
    LEAVE = "leave"  # what is in the target, because `overwrite` says so


@dataclass(frozen=True, slots=True)
class Failed:
    """A path of the snapshot that is not in the target, or not as it was, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreTally:
    """How far a restore is; the totals grow until `planned` says that they are final. Sizes in bytes."""

    files: int = 0
    dirs: int = 0
    others: int = 0  # links, devices, FIFOs
    done_bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    planned: bool = False
    same: int = 0  # files whose content was in the target already; they count in `files` too
    left: int = 0  # paths that were left as they are in the target


class Progress(Protocol):
    """Hears how a restore goes. Called from several threads, one call at a time; it must return soon."""

    def advanced(self, tally: RestoreTally) -> None:
        """At most some times a second."""

    def warned(self, path: bytes, reason: str) -> None:
        """A path is there, but not all that the snapshot says of it, or this machine cannot hold it."""

    def damaged(self, path: bytes, reason: str) -> None:
        """A path is not there, because the vault has lost something of it."""

    def would(self, step: Step, path: bytes) -> None:
        """What a restore would do, in a dry run."""


class NoProgress:
    """Tells nobody."""

    def advanced(self, tally: RestoreTally) -> None:
        """Nothing to say."""

    def warned(self, path: bytes, reason: str) -> None:
        """Nothing to say."""

    def damaged(self, path: bytes, reason: str) -> None:
        """Nothing to say."""

    def would(self, step: Step, path: bytes) -> None:
        """Nothing to say."""


@dataclass(frozen=True, slots=True)
class RestoreSummary:
    """What a restore did. `damaged` names what the vault has lost: it is not in the target. Sizes in bytes.

    `warned` and `lost` count all of them; `warnings` and `damaged` are the first. Of the files, `same` had their
    content in the target already; `left` paths were left as they are there; `resumed` says that an earlier restore was
    gone on with. A dry run counts what it would do.
    """

    files: int
    dirs: int
    others: int
    bytes: int
    fetched_bytes: int
    seconds: float
    warnings: tuple[Failed, ...] = ()
    damaged: tuple[Failed, ...] = ()
    warned: int = 0
    lost: int = 0
    same: int = 0
    left: int = 0
    resumed: bool = False
    deleted: int = 0

    @property
    def exit_code(self) -> int:
        """0, or 3 with warnings, or 8 if the vault has lost something."""
        return exit_code_of(warned=self.warned, lost=self.lost)


def exit_code_of(*, warned: int, lost: int) -> int:
    """0, or 3 with warnings, or 8 if the vault has lost something."""
    if lost:
        return DamagedVault.exit_code
    return WARNINGS_EXIT_CODE if warned else 0


KEPT_WARNINGS = 1000  # and as many losses; all are told as they come


@dataclass(slots=True)
class Counters:
    """The running figures of one restore, added to by all its threads."""

    progress: Progress
    monotonic: Callable[[], float] = time.monotonic
    interval: float = 0.2  # seconds between two reports
    values: dict[str, int] = field(default_factory=dict)
    warnings: list[Failed] = field(default_factory=list)
    losses: list[Failed] = field(default_factory=list)
    warned: int = 0
    lost: int = 0
    planned: bool = False
    _reported: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **amounts: int) -> None:
        """Add to the named fields of RestoreTally, and report if it is time."""
        with self._lock:
            for name, amount in amounts.items():
                self.values[name] = self.values.get(name, 0) + amount
            now = self.monotonic()
            if now - self._reported >= self.interval:
                self._reported = now
                self.progress.advanced(RestoreTally(**self.values, planned=self.planned))

    def warn(self, path: bytes, reason: str) -> None:
        with self._lock:
            self.warned += 1
            if len(self.warnings) < KEPT_WARNINGS:
                self.warnings.append(Failed(path, reason))
            self.progress.warned(path, reason)

    def lose(self, path: bytes, reason: str) -> None:
        with self._lock:
            self.lost += 1
            if len(self.losses) < KEPT_WARNINGS:
                self.losses.append(Failed(path, reason))
            self.progress.damaged(path, reason)

    def would(self, step: Step, path: bytes) -> None:
        with self._lock:
            self.progress.would(step, path)

    def report(self) -> RestoreTally:
        """Report at once, and answer what was reported."""
        with self._lock:
            tally = RestoreTally(**self.values, planned=self.planned)
            self.progress.advanced(tally)
            return tally
