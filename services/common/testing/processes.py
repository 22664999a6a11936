"""Roles as processes of their own, as an operator runs them, on free ports of loopback."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

_START_SECONDS = 180.0
_END_SECONDS = 180.0


@dataclass(slots=True)
class RoleProcess:
    """One running `python -m services.<role>`. Its log is read as it comes, so that it never blocks."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    _queue: "Queue[str | None]" = field(default_factory=Queue)
    _reader: threading.Thread | None = None

    def read_log(self) -> None:
        """Begin to read stderr in a thread."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, event: str, seconds: float = _START_SECONDS) -> dict[str, Any]:
        """The next log line of an event. Raises AssertionError, with the log, if the process ends or is silent."""
        while True:
            try:
                line = self._queue.get(timeout=seconds)
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"no {event!r} in the log:\n{self.log}")
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("event") == event:
                return dict(entry)

    def wait(self, seconds: float = _END_SECONDS) -> int:
        """The exit code, with the whole log read."""
        code = self.process.wait(seconds)
        if self._reader:
            self._reader.join()
        return code

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        if self.process.stderr is None:
            raise AssertionError("the process was started without a pipe for its log")
        for line in self.process.stderr:
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put(None)


@contextmanager
def a_process(role: str, environment: Mapping[str, str], *, starts: bool = True) -> Iterator[RoleProcess]:
    """Run a role with OORT_ variables; waits until it serves unless it is not expected to. Killed at the end."""
    root = Path(__file__).parents[3]
    variables = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": f"{root}:{root / 'generated'}", **environment}
    command = [sys.executable, "-m", f"services.{role}"]
    process = subprocess.Popen(command, env=variables, cwd=root, stderr=subprocess.PIPE, text=True)
    running = RoleProcess(process)
    running.read_log()
    try:
        if starts:
            serving = running.wait_for("serving")
            running.ports = {name: serving[name] for name in ("public", "internal", "metrics")}
        yield running
    finally:
        process.kill()
        running.wait()
        if process.stderr:
            process.stderr.close()
