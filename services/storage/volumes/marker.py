"""The file that says whose data folder it is: `oort-disk.json` with the node's name and the disk's own id.

Kept true: a folder of one node is never taken for another's; and when the file is gone while the node runs, the disk is
not there (not mounted, pulled out), so that what is not found in the folder is not taken for lost.
"""

import json
import os
from pathlib import Path
from uuid import UUID, uuid4

from services.common.errors import StartError

NAME = "oort-disk.json"
LOCK = "lock"
_LENGTH = 4096


def read(folder: Path) -> tuple[str, UUID] | None:
    """Node and disk id; None if there is no file that says so."""
    try:
        return parse((folder / NAME).read_bytes())
    except OSError:
        return None


def read_again(folder: Path) -> None:
    """Read the file from the disk, and not from memory. Raises OSError."""
    handle = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.read(handle, _LENGTH)
    finally:
        os.close(handle)


def content(node: str, disk: UUID) -> bytes:
    return json.dumps({"node": node, "disk": str(disk)}).encode()


def parse(found: bytes) -> tuple[str, UUID] | None:
    """Node and disk id; None if it is not what `content` wrote."""
    try:
        read = json.loads(found)
        return str(read["node"]), UUID(read["disk"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def claim(folder: Path, node: str) -> tuple[UUID, bool]:
    """The id of the node's disk, and whether it got it just now. Raises StartError for another node's folder."""
    place = folder / NAME
    if place.exists():
        known = read(folder)
        if known is None:
            raise StartError(
                f"OORT_DATA_DIRS: cannot read {place}: bring it back, or remove it if the data is this node's"
            )
        if known[0] != node:
            raise StartError(f"OORT_DATA_DIRS: {folder} belongs to node {known[0]}, and this is node {node}")
        return known[1], False
    disk = uuid4()
    part = place.with_name(NAME + ".part")
    try:
        with part.open("wb") as file:
            file.write(content(node, disk))
            file.flush()
            os.fsync(file.fileno())
        part.rename(place)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StartError(f"OORT_DATA_DIRS: cannot use {folder}: {error.strerror}") from error
    return disk, True
