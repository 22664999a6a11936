"""What a report says of the machine that it was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

_LIBRARIES = ("grpcio", "cryptography", "zstandard", "pyfastcdc", "lmdb")


def describe() -> dict[str, str]:
    """Names and values; nothing that names the host."""
    memory = psutil.virtual_memory().total / (1 << 30)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f} processes that run or wait for a disk",
        "system": f"{_system()}, {platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_version()} with {libraries}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown system"
