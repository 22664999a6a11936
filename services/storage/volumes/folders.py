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


def take_lock(path: Path) -> int:
    """Open a lock file, and have it alone (flock(2)). Raises BlockingIOError, OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def free_bytes(folder: Path) -> int:
    """What the file system has free, as who is not root may use it."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if there is none. Raises OSError."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
