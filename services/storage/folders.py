"""Folders of a disk: made, listed, and their names made durable."""

import fcntl
import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make one folder, 0700, and its name durable. Nothing if it is there."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def open_lock(path: Path, *, take: bool) -> int:
    """Open a lock file, and have it alone (flock(2)) if it is to be taken. Raises BlockingIOError, OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if take:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if there is none. Raises OSError."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
