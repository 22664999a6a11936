"""Process ids, and where one means what.

Kept true: whether a process still runs is asked only where its number can be told apart from the same number elsewhere.
Two containers of a machine, and two machines, give one pid to different processes, and may well have one host name.
"""

import os
from hashlib import sha256
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SPACE = Path("/proc/self/ns/pid")


def pid_space(boot: Path = _BOOT, space: Path = _SPACE) -> str:
    """Where pids of this process mean what they mean to it: this boot of this kernel, this namespace of pids.

    32 hex digits, which say nothing else; empty where the system does not tell.
    """
    try:
        return sha256(f"{boot.read_text()}{space.readlink()}".encode()).hexdigest()[:32]
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Whether no process of this process's own space has the number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
