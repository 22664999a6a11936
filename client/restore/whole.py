"""Files of one piece, which are made, filled and named in one go.

Kept true: whatever ends it, the name has the whole file with its metadata, or what it had before; until then nobody
may read it who may not afterwards.
"""

import contextlib
import os
import stat
from enum import Enum, auto
from typing import Protocol

from client.platforms.linux import create_file, is_superuser
from client.platforms.nodes import Metadata, write_metadata
from client.restore.sparse import write_sparsely
from client.restore.way import give_name

_PERMISSIONS = 0o777
_HIDDEN = 0o600
_Kind = tuple[int, int, int]  # mode, uid and gid of a node


class Named(Metadata, Protocol):
    """A node, or what has its name and metadata."""

    @property
    def name(self) -> bytes: ...


class _Known(Enum):
    """What was seen of files of one kind that were made in a folder."""

    NOTHING = auto()
    OWNER = auto()  # is the right one at once
    ALL = auto()  # owner and mode are, if it is made with its own mode
    DIFFERENT = auto()


class NewFiles:
    """How files turn out that are made in one folder: learnt from the first two of a kind, of which others need less.

    Whose a new file is depends on the folder's set-group-id bit and on how it is mounted, its mode on the folder's
    default ACL and on the process's umask. Not to be kept longer than these stay as they are.
    """

    def __init__(self) -> None:
        self._known: dict[_Kind, _Known] = {}

    def known(self, kind: _Kind) -> _Known:
        return self._known.get(kind, _Known.NOTHING)

    def look(self, kind: _Kind, opened: int) -> None:
        """Learn from a new file to which nothing was done yet. Raises OSError."""
        mode, uid, gid = kind
        found = os.fstat(opened)
        is_owner = found.st_gid == gid and (found.st_uid == uid or not is_superuser())  # who else can give none away
        if self.known(kind) is _Known.OWNER:
            self._known[kind] = _Known.ALL if is_owner and found.st_mode == mode else _Known.DIFFERENT
        else:
            is_usual = not stat.S_IMODE(mode) & ~_PERMISSIONS
            self._known[kind] = _Known.OWNER if is_owner and is_usual else _Known.DIFFERENT


def write_whole(node: Named, partial: bytes, content: bytes, folder: int, new_files: NewFiles) -> list[str]:
    """Make the file of `node` in the open `folder`, of which there are `new_files`; it is `partial` until it is whole.

    Answers complaints about its metadata. Raises OSError, and leaves nothing then.
    """
    kind = node.unix_mode, node.uid, node.gid
    known = new_files.known(kind) if not node.extended_attributes else _Known.DIFFERENT
    hidden = known is _Known.NOTHING or known is _Known.DIFFERENT
    opened = create_partial(partial, folder, _HIDDEN if hidden else stat.S_IMODE(node.unix_mode))
    try:
        try:
            if known is _Known.NOTHING or known is _Known.OWNER:
                new_files.look(kind, opened)
            if write_sparsely(opened, content, 0) < len(content):
                os.truncate(opened, len(content))
            complaints = write_metadata(node, opened, only_times=known is _Known.ALL)
        finally:
            os.close(opened)
        give_name(partial, node.name, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise
    return complaints


def create_partial(partial: bytes, folder: int, mode: int = _HIDDEN) -> int:
    """Create a file that is not whole yet, in place of one that an earlier restore left. Raises OSError."""
    try:
        return create_file(partial, folder, mode)
    except FileExistsError:  # an earlier restore was ended just here
        os.unlink(partial, dir_fd=folder)
        return create_file(partial, folder, mode)
