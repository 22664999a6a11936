"""Time, processor and memory of one finished command, and of the servers that it spoke to.

Kept true: time and processor come from the operating system's own accounting and miss nothing, not even processes that
came and went; memory is what was seen by looking every 10 ms, in anonymous pages and those that processes share: what a
program has made, without its code and without files that it has mapped, which the system can drop.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_LOOK_SECONDS = 0.01
_FAMILY_LOOKS = 20  # looks between two searches for new child processes


class NotMeasured(Exception):
    """Figures could not be had, or mean nothing: a command failed, did not do its work, or had no room for it."""


@dataclass(frozen=True, slots=True)
class Run:
    """`seconds` of wall time; processor seconds, user and kernel, of the client and of the servers; bytes at the peak.

    `peak` is of the client with its child processes: the most memory that they had made at one moment.
    """

    seconds: float
    client_cpu: float
    server_cpu: float
    peak: int

    @property
    def cpu(self) -> float:
        """Processor seconds of both ends."""
        return self.client_cpu + self.server_cpu


def measure(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    servers: Sequence[int] = (),
    on_start: Callable[[int], None] = lambda _pid: None,
) -> Run:
    """Run a command to its end, its output into `log`; `servers` are pids it talks to. Raises NotMeasured.

    `on_start` is told its pid as soon as it runs.
    """
    before = processor_seconds(servers)
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        memory = _Memory(process.pid)
        try:
            on_start(process.pid)
            with Watch(memory.look, _LOOK_SECONDS):
                _, status, usage = os.wait4(process.pid, 0)
                seconds = time.perf_counter() - started
        except BaseException:  # Ctrl-C too: nothing that we started goes on
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2_000:]
        raise NotMeasured(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    served = processor_seconds(servers) - before
    return Run(seconds, usage.ru_utime + usage.ru_stime, served, memory.peak)


def processor_seconds(pids: Sequence[int]) -> float:
    """All that processes and their descendants have used so far, those that have ended included."""
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def made_memory(pids: Sequence[int]) -> int:
    """Bytes of memory that processes of one family have made: what is anonymous, and once what they share."""
    own = shared = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path("/proc", str(pid), "status").read_bytes().splitlines():
                if line.startswith(b"RssAnon:"):
                    own += int(line.split()[1]) * 1024
                elif line.startswith(b"RssShmem:"):
                    shared = max(shared, int(line.split()[1]) * 1024)
    return own + shared


class Watch:
    """Calls `look` at once and then every `seconds`, in a thread of its own, until it is left."""

    def __init__(self, look: Callable[[], None], seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            self._look()
            self._over.wait(self._seconds)


class _Memory:
    """The memory that a process and its descendants have made; `peak` is the most that `look` has seen."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._looks = 0
        self._pids = [pid]

    def look(self) -> None:
        if self._looks % _FAMILY_LOOKS == 0:
            self._pids = [process.pid for process in family(self._pid)] or self._pids
        self._looks += 1
        self.peak = max(self.peak, made_memory(self._pids))
