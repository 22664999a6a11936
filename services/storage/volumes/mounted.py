"""Which disks a node has, noted on each of them: a folder on which one is not mounted is not taken for an empty disk.

DATA_DIR/disks has a line for each disk: its id (marker.py), and the folder in which it was. A disk that is left out
keeps its line, until somebody says that it is gone for good.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import structlog

from services.common.errors import StartError
from services.storage.volumes import marker
from services.storage.volumes.folders import sync_folder

_NAME = "disks"


def require_mounted(folders: Sequence[Path], gone: Collection[UUID] = ()) -> None:
    """Look for the disks that were in these folders, in any of them, before something is written there.

    Raises StartError for one that is not there, and is not `gone` for good.
    """
    found = {known[1] for folder in folders if (known := marker.read(folder)) is not None}
    given = {str(folder.absolute()) for folder in folders}
    for folder in folders:
        for disk, place in _noted(folder):
            if disk not in found and place in given and disk not in gone:
                raise StartError(
                    f"OORT_DATA_DIRS: the disk {disk} that was in {place} is not there: mount it, or leave that folder"
                    " out. Give a disk that takes its place another folder, or, if what is in that folder now is to"
                    f" take its place, name the other one as gone for good: OORT_GONE_DISKS={disk}"
                )


def note(disks: Mapping[Path, UUID], gone: Collection[UUID] = ()) -> None:
    """Note the ids of the disks in these folders on each of them, beside those that were left out and are not `gone`.

    What a full one does not take is logged. Raises StartError for a list that cannot be read.
    """
    known = {disk: place for folder in disks for disk, place in _noted(folder) if disk not in gone}
    known |= {disk: str(folder.absolute()) for folder, disk in disks.items()}
    if len(known) == 1 and not any((folder / _NAME).exists() for folder in disks):
        return  # the only one
    content = "".join(f"{disk} {place}\n" for disk, place in sorted(known.items())).encode()
    for folder in disks:
        place = folder / _NAME
        try:
            if not place.exists() or place.read_bytes() != content:
                part = place.with_name(_NAME + ".part")
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(place)
                sync_folder(folder)
        except OSError as error:
            log = structlog.get_logger("storage")
            log.warning("the disks of this node cannot be noted on one", folder=str(folder), cause=str(error))


def _noted(folder: Path) -> Iterator[tuple[UUID, str]]:
    try:
        lines = (folder / _NAME).read_text().splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StartError(f"OORT_DATA_DIRS: cannot read {folder / _NAME}: {error}") from error
    for line in lines:
        disk, _, place = line.partition(" ")
        try:
            yield UUID(disk), place
        except ValueError as error:
            raise StartError(
                f"OORT_DATA_DIRS: {folder / _NAME} has {line!r}, which is no disk: see that all disks are mounted, and"
                " remove that file, which is then written anew"
            ) from error
