"""Files and folders of a vault on a disk: what lies in a folder, what a file holds, and what is written for good."""

import contextlib
import os
import stat
from pathlib import Path

from client.disk import sync_folder
from client.stores.abc import Buffer, ObjectInfo
from domain.names import BadName, ObjectKind, ObjectName

FOLDER_MODE = 0o700
_FILE_MODE = 0o600


def scan(folder: Path, kind: ObjectKind) -> list[ObjectInfo]:
    """The objects in one folder; whatever else lies there is not ours."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(BadName, FileNotFoundError):
                name = ObjectName(kind, entry.name)
                if entry.is_file():
                    found.append(ObjectInfo(name, entry.stat().st_size))
    return found


def subfolders(folder: Path) -> set[str]:
    """Names of the folders in one that is there."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir()}


def is_file(path: Path) -> bool:
    """Whether a regular file lies there, or a link to one."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def read(descriptor: int, offset: int, length: int | None) -> bytes:
    """`length` bytes from `offset`, or all; fewer where the file ends before. Raises OSError."""
    size = os.fstat(descriptor).st_size
    wanted = max(0, size - offset) if length is None else min(length, max(0, size - offset))
    body = os.pread(descriptor, wanted, offset)
    while len(body) < wanted:
        more = os.pread(descriptor, wanted - len(body), offset + len(body))
        if not more:
            break
        body += more
    return body


def write_synced(path: Path, body: Buffer) -> None:
    """Make a file that was not there, and wait until the disk has it. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(folder: Path) -> None:
    """Make a folder durably if it is not there. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)
