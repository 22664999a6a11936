"""The folder that is taken in: whoever filled the disk chose what lies there, and is told what is stored of it.

Kept true: no link leads to a file that is stored for what lies behind it, and no file is read whole that is too large
for what it should be. Packs, index files and snapshots are known by their SHA-256, so a link of one tells nothing.
"""

import errno
import os
import stat
from pathlib import Path

from client.errors import ObjectMissing, StoreError
from deploy.seeding.errors import NotARepository, Unreadable
from domain.names import ObjectName

_FOLDERS = ("data", "index", "key", "keys", "snapshot", "snapshots")  # with those of restic's old layout


def refuse_links(repository: Path) -> None:
    """Raises NotARepository where a folder of the repository is a link."""
    with os.scandir(repository) as entries:
        links = sorted(entry.name for entry in entries if entry.name in _FOLDERS and entry.is_symlink())
    if not links and (repository / "data").is_dir():
        with os.scandir(repository / "data") as entries:
            links = sorted(f"data/{entry.name}" for entry in entries if entry.is_symlink() and entry.is_dir())
    if links:
        raise NotARepository(folder=repository, detail=f"{links[0]} is a link to a folder elsewhere")


def read_small(path: Path, name: ObjectName, most: int) -> bytes:
    """A regular file of at most `most` bytes. Raises ObjectMissing, Unreadable; StoreError when the disk fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe is not waited for
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(detail="it is no regular file")
            if found.st_size > most:
                raise Unreadable(detail=f"it has {found.st_size} bytes: at most {most} are taken")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(most)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ObjectMissing(name=name, place=path.parent) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unreadable(detail="it is a link") from None
        raise StoreError(place=path, detail=error.strerror) from None
