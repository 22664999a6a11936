"""Processes that the stack starts, and finds again after whoever started them is gone.

Kept true: a process is known by its pid together with its start time, so a pid that the system has given to another
program is never signalled.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

# Start times come from the kernel's boot clock; psutil's rounding and a stepped wall clock move them a little.
_START_TOLERANCE_SECONDS = 2.0
_FAMILY_PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process; `started` is seconds since 1970 as the kernel says."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now, or None."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(int(value["pid"]), float(value["started"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def find(self) -> psutil.Process | None:
        """The living process, or None when it is gone, a zombie, or another one has its pid."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > _START_TOLERANCE_SECONDS:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        return self.find() is not None


def spawn(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, with its output added to `log` (0600) and nothing inherited but `env`.

    In a session of its own, Ctrl-C at a terminal reaches the supervisor only, which then stops servers in order.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(descriptor)


def stop(process: ProcessId, *, ask: signal.Signals = signal.SIGTERM, patience: float) -> bool:
    """Ask a process to end, wait `patience` seconds, then end it for good, and whatever descendants it left.

    True if the process ended by being asked. A process that has ended is no error.
    """
    found = process.find()
    if found is None:
        return True
    descendants = []
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = [made for child in found.children(recursive=True) if (made := ProcessId.of(child.pid))]
    with contextlib.suppress(psutil.NoSuchProcess):
        found.send_signal(ask)
    clean = _wait([process], patience)
    left = [process, *descendants]
    if clean:
        _wait(left, _FAMILY_PATIENCE_SECONDS)
    for relative in left:
        if living := relative.find():
            with contextlib.suppress(psutil.NoSuchProcess):
                living.kill()
    _wait(left, patience)
    return clean


def _wait(processes: Sequence[ProcessId], seconds: float) -> bool:
    """Whether all have ended within `seconds`.

    By asking, since they may be no children of ours; one that its parent has not yet taken note of has ended too.
    """
    end = time.monotonic() + seconds
    while any(process.alive for process in processes):
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for the message about a server that did not start."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-count:])
