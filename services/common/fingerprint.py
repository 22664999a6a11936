"""The hardware that a lease is bound to.

Kept true: the fingerprint stays the same over restarts, updates of the kernel and other limits of a container's
memory and processors; it needs no rights beyond reading world-readable files, so root and a user find the same one.

It is the SHA-256 of these facts, one `name=value` line each, missing ones left out: the machine id (systemd's
/etc/machine-id, or D-Bus's), the processor's architecture and model, and the names that vendor and product have in the
firmware. Left out on purpose, since they change under a container: host name, network addresses, the number of
processors, memory and disks. A container image should leave /etc/machine-id empty and mount the host's.
"""

import platform
from hashlib import sha256
from pathlib import Path

_FILES = {
    "machine-id": ("etc/machine-id", "var/lib/dbus/machine-id"),
    "vendor": ("sys/class/dmi/id/sys_vendor",),
    "product": ("sys/class/dmi/id/product_name",),
    "board": ("sys/class/dmi/id/board_name",),
}
# The first of these that /proc/cpuinfo has: x86 names the model, ARM numbers it.
_PROCESSOR_KEYS = ("model name", "cpu model", "CPU part")


def fingerprint(root: Path = Path("/"), architecture: str = "") -> str:
    """Hex SHA-256 of the machine below `root`; `architecture` is `uname -m` where none is given."""
    facts = {"architecture": architecture or platform.machine()}
    for name, files in _FILES.items():
        facts[name] = next((text for file in files if (text := _text(root / file))), "")
    facts["processor"] = _processor(_text(root / "proc/cpuinfo"))
    lines = "".join(f"{name}={value}\n" for name, value in sorted(facts.items()) if value)
    return sha256(lines.encode()).hexdigest()


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        # A fact that this machine does not have, or does not show.
        return ""


def _processor(cpuinfo: str) -> str:
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return next((found[key] for key in _PROCESSOR_KEYS if found.get(key)), "")
