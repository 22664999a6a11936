"""What this program keeps on a disk for itself: closed to others, and there after a power cut."""

import os
from pathlib import Path


def private(path: str, flags: int) -> int:
    """An `opener` of files that only their owner may read, where it makes them."""
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable; Windows has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
