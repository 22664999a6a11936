"""Which orders to clear buckets are over, noted on a disk: the database may be put back to where it did not know that.

DATA_DIR/cleared has one id a line.
"""

import os
from pathlib import Path
from uuid import UUID

from services.storage.volumes.folders import sync_folder

_NAME = "cleared"


def is_noted(folder: Path, order: UUID) -> bool:
    """Whether an order is over, by what was noted in a data folder. Raises OSError."""
    try:
        return str(order) in (folder / _NAME).read_text().splitlines()
    except FileNotFoundError:
        return False


def note(folder: Path, order: UUID) -> None:
    """Keep durably that an order is over. Raises OSError."""
    handle = os.open(folder / _NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # A line of its own, also after one that a crash has cut.
        os.write(handle, f"\n{order}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(folder)
