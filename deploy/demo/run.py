"""The demonstration: a person's files through the real system, and the proof that they came back.

Kept true: nothing of it stays: processes and folder go at the end, on failure and on Ctrl-C as well; the source is only
read.
"""

import contextlib
import os
import secrets
import shutil
import signal
import stat
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from client.cli.console import duration_text, plural, size_text
from client.errors import UsageError
from deploy.demo.verdict import Comparison, Expectation, compare, equality
from deploy.driver import CommandFailed, Device, Operator
from deploy.local import stack
from deploy.local.errors import StackError

_WARNINGS = 3
_CHANGED = "changed while it was read"  # in the engine's warning; anything else was not read
_MOST_NAMED = 20
_COPIES_PATIENCE_SECONDS = 120.0
# Two copies on the nodes, the restored tree, and room for indexes and logs.
_ROOM = 3.2
_VAULT = "demonstration"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """One run of `backup-tool backup --json`."""

    summary: dict[str, Any]
    unreadable: dict[str, str]  # path to reason
    changed: dict[str, str]  # path to reason: stored, but written to while it was read
    began_ns: int
    seconds: float


def run(source: Path | None, *, keep: bool, say: Say) -> int:
    """The whole demonstration; answers the exit code: 0, 1 when a difference was found, 3 for unreadable files."""
    chosen = _checked(source or Path(sysconfig.get_path("stdlib")))
    entries, total = _measure(chosen)
    say(f"Oort will back up {chosen}: {plural(entries, 'file')}, {size_text(total)}.\n")
    with _terminated_as_interrupted(), _folder(total, chosen, keep=keep, say=say) as folder:
        began = time.monotonic()
        operator = Operator(folder / "stack")
        with _stack(operator, say), _failures_told():
            device = _device(operator, folder, say)
            say("3. Backing up: scan, cut into chunks, compress, encrypt, send to a node, which sends it to the other.")
            first = _back_up(device, chosen)
            _tell_first(first, say)
            second = _back_up(device, chosen)
            _tell_second(first, second, say)
            _wait_for_copies(operator, device, say)
            say("4. Restoring into an empty folder.")
            restored = folder / "restored"
            seconds = _restore(device, restored)
            say(f"   Done in {duration_text(seconds)} ({_rate(total, seconds)}).\n")
            say("5. Comparing each file, folder and link with its original.")
            found = _compare(chosen, restored, second)
        code = _verdict(found, second, say)
        say(f"All of it took {duration_text(time.monotonic() - began)}.")
        return code


def _checked(source: Path) -> Path:
    """The folder as a real absolute path. Raises UsageError."""
    if not source.exists():
        raise UsageError(detail=f"There is no {source}: give an existing folder as the source.")
    if not source.is_dir():
        raise UsageError(detail=f"{source} is not a folder: give one as the source.")
    resolved = source.resolve()
    if not os.access(resolved, os.R_OK | os.X_OK):
        raise UsageError(detail=f"{source} cannot be read by you: give another source.")
    return resolved


def _measure(source: Path) -> tuple[int, int]:
    """Files and their bytes. What cannot be read is left to the backup to tell."""
    files = total = 0
    for parent, _, names in os.walk(source):
        for name in names:
            with contextlib.suppress(OSError):
                status = Path(parent, name).lstat()
                if stat.S_ISREG(status.st_mode):
                    files, total = files + 1, total + status.st_size
    return files, total


@contextmanager
def _folder(total: int, source: Path, *, keep: bool, say: Say) -> Iterator[Path]:
    """A private temporary folder with enough room, removed at the end. Raises UsageError."""
    place = Path(tempfile.gettempdir()).resolve()
    if place.is_relative_to(source):
        raise UsageError(detail=f"{source} holds the temporary folder {place}: set TMPDIR to a folder outside of it.")
    free = shutil.disk_usage(place).free
    needed = int(total * _ROOM) + (512 << 20)
    if free < needed:
        raise UsageError(
            detail=f"{place} has {size_text(free)} free and {size_text(needed)} are needed: set TMPDIR to another."
        )
    folder = Path(tempfile.mkdtemp(prefix="oort-demo-", dir=place))
    try:
        yield folder
    finally:
        if keep:
            say(f"Everything is still in {folder}; `oort stack up --data {folder / 'stack'}` starts it again.")
        else:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Also folders that were restored without their owner's right to write in them, which stops all but root."""
    if os.geteuid() != 0:
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def _stack(operator: Operator, say: Say) -> Iterator[None]:
    say("1. Starting Postgres, Redis, and the roles license, auth, storage (two nodes), branding and cluster.")
    began = time.monotonic()
    try:
        stack.up(operator.data, detach=True, say=lambda _: None, ready=lambda: None)
        say(f"   Up in {duration_text(time.monotonic() - began)}, each its own process, all calls under TLS.\n")
        yield
    finally:
        # Ctrl-C once more must not leave anything behind.
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if (operator.data / "stack.json").exists():
                stack.down(operator.data)
        finally:
            signal.signal(signal.SIGINT, former)


@contextmanager
def _failures_told() -> Iterator[None]:
    """A command that fails is told by what it said."""
    try:
        yield
    except CommandFailed as error:
        raise StackError(detail=str(error)) from None


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the demonstration as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _device(operator: Operator, folder: Path, say: Say) -> Device:
    password = secrets.token_urlsafe(18)
    operator.add_user("demo", password)
    device = Device(folder / "home")
    device.log_in(operator, "demo", password)
    device.request_vault(_VAULT)
    say("2. A user, a device logged in with a password that no server learns, a vault with two copies.\n")
    return device


def _back_up(device: Device, source: Path) -> Backup:
    began_ns, began = time.time_ns(), time.monotonic()
    outcome = device.backup_outcome(_VAULT, source, codes=(0, _WARNINGS))
    warnings = {warning["path"]: warning["reason"] for warning in outcome.events("warning")}
    changed = {path: reason for path, reason in warnings.items() if _CHANGED in reason}
    unreadable = {path: reason for path, reason in warnings.items() if path not in changed}
    return Backup(outcome.summary(), unreadable, changed, began_ns, time.monotonic() - began)


def _tell_first(backup: Backup, say: Say) -> None:
    done = backup.summary
    share = _ratio(done["stored_bytes"], done["total_bytes"])
    say(f"   First backup: {plural(done['total_files'], 'file')}, {size_text(done['total_bytes'])}, {_speed(backup)}.")
    say(f"   New content and folder lists: {size_text(done['new_bytes'])};")
    say(f"   compressed and sealed: {size_text(done['stored_bytes'])}, {share} of the files' size.")


def _tell_second(first: Backup, second: Backup, say: Say) -> None:
    done = second.summary
    sent, sent_first = done["uploaded_bytes"], first.summary["uploaded_bytes"]
    say(f"   Second backup: {plural(done['files_unmodified'], 'file')} unchanged, {_speed(second)}.")
    saved = _ratio(sent_first - sent, sent_first)
    say(f"   It sent {size_text(sent)}, the first had sent {size_text(sent_first)}: {saved} saved.")


def _speed(backup: Backup) -> str:
    return f"in {duration_text(backup.seconds)} ({_rate(backup.summary['total_bytes'], backup.seconds)})"


def _wait_for_copies(operator: Operator, device: Device, say: Say) -> None:
    end = time.monotonic() + _COPIES_PATIENCE_SECONDS
    while not (found := stack.status(operator.data)).copies_complete:
        if time.monotonic() > end:
            raise StackError(detail=f"after {_COPIES_PATIENCE_SECONDS:.0f} s {found.missing_copies} copies are missing")
        time.sleep(0.5)
    folders = operator.bucket_folders(device.recovery(_VAULT)["bucket"])
    say(f"   {len(folders)} nodes hold all of it, each as a whole restic repository that only the user's key opens.\n")


def _restore(device: Device, target: Path) -> float:
    began = time.monotonic()
    device.tool.ok("restore", "latest", "--target", str(target), "--vault", _VAULT, codes=(0, _WARNINGS))
    return time.monotonic() - began


def _compare(source: Path, restored: Path, second: Backup) -> Comparison:
    place = restored / source.relative_to("/")
    # The second snapshot was restored, so what changed before it began is in it.
    unreadable = frozenset(map(Path, second.unreadable))
    return compare(source, place, Expectation(second.began_ns, unreadable, as_root=os.geteuid() == 0))


def _verdict(found: Comparison, backup: Backup, say: Say) -> int:
    what = "content, mode, time, link, attributes" + (" and owner" if os.geteuid() == 0 else "")
    say(f"   {plural(found.files, 'file')}, {plural(found.folders, 'folder')}, {plural(found.links, 'link')}: {what}.")
    if os.geteuid() != 0:
        say("   (Owners are not compared: only root may give files to others.)")
    _name("These changed in the source meanwhile, so they cannot be compared", found.changed_meanwhile, say)
    _name("These differ", found.different, say)
    _name("The backup could not read these", [f"{path}: {why}" for path, why in backup.unreadable.items()], say)
    _name("These were written to while the backup read them", list(backup.changed), say)
    if found.different:
        say("\nThe restored tree is NOT equal to the original.")
        return 1
    say("\n" + equality(unreadable=bool(backup.unreadable), changed=bool(backup.changed or found.changed_meanwhile)))
    return _WARNINGS if backup.unreadable else 0


def _rate(amount: float, seconds: float) -> str:
    """Bytes in seconds, as bytes a second."""
    return f"{size_text(amount / max(seconds, 0.001))}/s"


def _ratio(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _name(title: str, paths: list[str], say: Say) -> None:
    if paths:
        say(f"   {title} ({len(paths)}):")
        for path in paths[:_MOST_NAMED]:
            say(f"     {path}")
        if len(paths) > _MOST_NAMED:
            say(f"     and {len(paths) - _MOST_NAMED} more")
