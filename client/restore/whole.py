"""Files of one piece, which are made, filled and named in one go.

Kept true: whatever ends it, the name has the whole file with its metadata, or what it had before.
"""

import contextlib
import os
from typing import Protocol

from client.platforms.linux import create_file
from client.platforms.nodes import Metadata, write_metadata
from client.restore.sparse import write_sparsely
from client.restore.way import give_name


class Named(Metadata, Protocol):
    """A node, or what has its name and metadata."""

    @property
    def name(self) -> bytes: ...


def write_whole(node: Named, partial: bytes, content: bytes, folder: int) -> list[str]:
    """Make the file of `node` in the open `folder`, which is called `partial` until it is whole.

    Answers complaints about its metadata. Raises OSError, and leaves nothing then.
    """
    opened = create_partial(partial, folder)
    try:
        try:
            if write_sparsely(opened, content, 0) < len(content):
                os.truncate(opened, len(content))
            complaints = write_metadata(node, opened)
        finally:
            os.close(opened)
        give_name(partial, node.name, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise
    return complaints


def create_partial(partial: bytes, folder: int) -> int:
    """Create a file that is not whole yet, in place of one that an earlier restore left. Raises OSError."""
    try:
        return create_file(partial, folder)
    except FileExistsError:  # an earlier restore was ended just here
        os.unlink(partial, dir_fd=folder)
        return create_file(partial, folder)
