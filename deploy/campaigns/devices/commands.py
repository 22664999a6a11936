"""Commands of devices as processes that can be killed.

Kept true: a command that was not killed says how it ended by its exit code; of one that was, only whole lines of what
it wrote count. A killed command leaves no process behind: its workers are remembered, and looked for at the end.
"""

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from threading import Lock
from typing import Any

import psutil

from deploy.driver import Device
from deploy.local.processes import ProcessId

PATIENCE_SECONDS = 300.0  # for one command, which waits two minutes for nodes
_FIRST_GUESS_SECONDS = 4.0


class Kind(StrEnum):
    """What a command is for; a prune is a retention that frees space as well."""

    BACKUP = "backup"
    RESTORE = "restore"
    RETENTION = "retention"
    PRUNE = "retention --prune"


@dataclass(frozen=True, slots=True)
class Run:
    """A command that has ended; times are those of the monotonic clock. `code` is None if it did not end by itself."""

    kind: Kind
    device: str
    arguments: tuple[str, ...]
    started: float
    ended: float
    code: int | None
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def error(self) -> str:
        """The name of the error that it ended with, if it did."""
        return next((str(line["error"]) for line in _documents(self.stderr) if line.get("type") == "error"), "")

    @property
    def summary(self) -> dict[str, Any] | None:
        return next(self.events("summary"), None)

    def events(self, kind: str) -> Iterator[dict[str, Any]]:
        """The JSON lines of one `type` that it wrote as a whole."""
        return (line for line in _documents(self.stdout) if line.get("type") == kind)

    def __str__(self) -> str:
        said = self.stderr.strip()[-1500:] or self.stdout.strip()[-500:]
        end = f"did not end in {PATIENCE_SECONDS:.0f} s" if self.code is None else f"ended with {self.code}"
        return f"{self.device}: {' '.join(self.arguments)} {end}: {said}"


def _documents(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            yield json.loads(line)


class Commands:
    """Runs commands, several at once, and kills one that runs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[subprocess.Popen[str], Kind] = {}
        self._workers: list[ProcessId] = []  # of those that were killed
        self._seconds = [_FIRST_GUESS_SECONDS]  # that those took that were not

    @property
    def usual_seconds(self) -> float:
        """What a command takes here and now."""
        with self._lock:
            return statistics.fmean(self._seconds)

    def run(self, kind: Kind, name: str, device: Device, *arguments: str) -> Run:
        """Run to the end, whatever it is."""
        started = time.monotonic()
        line = device.tool.line(*arguments)
        env, pipe = dict(device.tool.env), subprocess.PIPE
        with (
            subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, errors="replace", env=env) as process,
            self._known(process, kind),
        ):
            try:
                stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                code = None
        run = Run(kind, name, arguments, started, time.monotonic(), code, stdout, stderr)
        if not run.killed:
            with self._lock:
                self._seconds.append(run.ended - started)
        return run

    def kill_one(self, random: Random) -> Kind | None:
        """Kill one with SIGKILL; None if none runs."""
        with self._lock:
            if not self._running:
                return None
            process = random.choice(list(self._running))
            with suppress(psutil.NoSuchProcess):
                workers = psutil.Process(process.pid).children(recursive=True)
                self._workers += [made for worker in workers if (made := ProcessId.of(worker.pid))]
            process.kill()
            return self._running[process]

    def left_behind(self) -> list[int]:
        """Processes that killed commands have started and that still run."""
        return [worker.pid for worker in self._workers if worker.alive]

    @contextmanager
    def _known(self, process: "subprocess.Popen[str]", kind: Kind) -> Iterator[None]:
        with self._lock:
            self._running[process] = kind
        try:
            yield
        finally:
            with self._lock:
                del self._running[process]
