"""Time and processor of one finished command, from the operating system's own accounting."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class CommandFailed(Exception):
    """A measured command did not end with 0, so its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """`seconds` of wall time, `cpu` seconds in user and kernel, `peak` resident bytes of the largest process."""

    seconds: float
    cpu: float
    peak: int


def measure(command: Sequence[str], env: Mapping[str, str], log: Path) -> Run:
    """Run a command to its end, its output into `log`. Raises CommandFailed."""
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2_000:]
        raise CommandFailed(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
