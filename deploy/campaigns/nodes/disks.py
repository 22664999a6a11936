"""Disks of storage nodes whose size can be changed while they are used: memory disks in this process's namespace.

Kept true: a disk that is full is full to the operating system; none is mounted any more when this is over. Nobody
outside the namespace sees what lies on them, so it is copied out where it is evidence.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_LARGE = 64 << 30  # of which memory is taken for what is stored alone
_SMALLER = 32 << 30
_LEFT = 3 << 20  # free bytes of a disk that is called full: too few for most packs, enough to be begun with
_TRIES = 20


class Disks:
    """One below each of these folders."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def __enter__(self) -> Self:
        """Raises CalledProcessError where nothing may be mounted."""
        for folder in self._folders.values():
            folder.mkdir(mode=0o700)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_LARGE},mode=0700", "none", folder], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._folders.values():
            subprocess.run(["umount", "--lazy", folder], check=True)

    def fill(self, node: str) -> None:
        """Shrink a disk to what lies on it, and next to nothing more. Raises CalledProcessError."""
        for attempt in range(_TRIES):
            found = os.statvfs(self._folders[node])
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            # More may have come since it was looked at.
            if self._resize(node, used + _LEFT * (attempt + 1), check=attempt + 1 == _TRIES):
                return
            time.sleep(0.05)

    def enlarge(self, node: str) -> None:
        self._resize(node, _LARGE)

    def prefer_others(self, node: str) -> None:
        """Let the others have more room than this one, and be chosen for what is new."""
        for name in self._folders:
            self._resize(name, _SMALLER if name == node else _LARGE)

    def copy_to(self, folder: Path) -> None:
        for name, disk in self._folders.items():
            shutil.copytree(disk, folder / name, symlinks=True)

    def _resize(self, node: str, size: int, *, check: bool = True) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self._folders[node])]
        return subprocess.run(command, check=check, capture_output=not check).returncode == 0
