"""A command run to its end inside a memory limit, and watched.

Kept true: the limit covers all that the command holds. Where a memory control group can be made (as root, version 1 or
2) that is every page charged to it, of the file cache too, which the kernel takes back when the limit is reached;
elsewhere it is RLIMIT_DATA: address space for private writable pages, which is more than what is in use of it.
"""

import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

_SAMPLE_SECONDS = 0.02
_ENDS_SECONDS = 60.0  # in which what a command has started ends after it
_GROUPS = Path("/sys/fs/cgroup")
_ENTER = 'echo $$ >"$0" && exec "$@"'
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of version 2 and of version 1
_ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended. `anonymous` is its peak of RssAnon in bytes, `cpu` seconds in user and kernel."""

    code: int
    seconds: float
    cpu: float
    anonymous: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Puts a command under a limit: `prefix` is what starts it, `name` says how it is limited."""

    name: str
    prefix: Sequence[str]


@contextmanager
def limited(limit: int) -> Iterator[Limit]:
    """A limit of so many bytes for the commands run inside."""
    group = _make_group(limit)
    if group is None:
        yield Limit("RLIMIT_DATA", ["prlimit", f"--data={limit}", "--"])
        return
    try:
        yield Limit("memory control group", ["sh", "-c", _ENTER, str(group / "cgroup.procs")])
    finally:
        _remove_group(group)


def run_watched(command: Sequence[str], env: Mapping[str, str], stdin: str = "") -> Run:
    """Run a command to its end, with a short text as its standard input."""
    started = time.monotonic()
    peak = 0
    with (
        TemporaryFile() as told,
        TemporaryFile() as stdout,
        TemporaryFile() as stderr,
        subprocess.Popen(command, env=dict(env), stdin=_filled(told, stdin), stdout=stdout, stderr=stderr) as process,
    ):
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, _anonymous(process.pid))
            time.sleep(_SAMPLE_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [_text(file) for file in (stdout, stderr)]
    seconds = time.monotonic() - started
    return Run(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak, *texts)


def _filled(file: IO[bytes], text: str) -> IO[bytes]:
    file.write(text.encode())
    file.seek(0)
    return file


def _anonymous(pid: int) -> int:
    with suppress(OSError):
        found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) << 10 if found else 0
    return 0


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _make_group(limit: int) -> Path | None:
    """A new group with that limit and no swap, or None where none can be made."""
    for parent in _parents():
        group = parent / f"oort-campaign-{secrets.token_hex(4)}"
        try:
            group.mkdir()
        except OSError:
            continue
        for name in _LIMITS:
            with suppress(OSError):
                (group / name).write_text(str(limit))
                return group
        group.rmdir()
    return None


def _remove_group(group: Path) -> None:
    """As soon as nobody is in it. Raises OSError."""
    end = time.monotonic() + _ENDS_SECONDS
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(_SAMPLE_SECONDS)
        else:
            return


def _parents() -> Iterator[Path]:
    """Where a group may be made: in the hierarchy of version 1 or 2, below our own group or at the top."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, root in (("memory", _GROUPS / "memory"), ("", _GROUPS)):
        if controllers in own and root.is_dir():
            for parent in (root / own[controllers], root):
                with suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text("+memory")
                yield parent
