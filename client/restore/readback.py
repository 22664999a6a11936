"""Files read back from the disk after they were written, and compared with the blobs that they were made of.

Kept true: what is compared comes from the disk, as far as the system lets go of what it has in memory.
"""

import os
from collections.abc import Sequence
from hashlib import sha256

from client.platforms.linux import forget_cached, open_within
from client.restore.target import Target
from client.restore.write import FileWriter, Piece, PlannedFile


def read_back(target: Target, writer: FileWriter, file: PlannedFile, pieces: Sequence[Piece]) -> None:
    """Compare a file with its blobs; one that differs loses its name, and is named among what is lost.

    Raises OSError if it cannot be read.
    """
    if not file.done:
        return  # and was named
    with target.opened(file.folder) as folder:
        opened = open_within(file.node.name, folder)
        try:
            forget_cached(opened)
            is_right = os.fstat(opened).st_size == file.size and all(_is_right(opened, piece) for piece in pieces)
        finally:
            os.close(opened)
    if not is_right:
        writer.take_back(file, "it does not read back as it was written: check the disk of the target")


def _is_right(opened: int, piece: Piece) -> bool:
    entry = piece.location.entry
    return sha256(os.pread(opened, entry.length_plain, piece.offset)).digest() == entry.id
