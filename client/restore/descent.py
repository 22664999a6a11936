"""One folder that is walked down and up from another, so that depth costs neither descriptors nor stack.

Kept true: no link is followed, and the way up leads to the folder that was left, whoever moves folders meanwhile.
"""

import errno
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from client.platforms.linux import open_folder

_OPEN_FOLDERS = 64  # the deepest; those above are opened again by `..`, which needs the right to enter a folder


@dataclass(slots=True)
class _Level:
    found: os.stat_result
    descriptor: int  # -1 if it is closed


class Descent:
    """A walk from the open folder `top`, which stays the caller's to close."""

    def __init__(self, top: int) -> None:
        self._levels = [_Level(os.fstat(top), top)]

    @property
    def folder(self) -> int:
        """The folder that the walk is in, open."""
        return self._levels[-1].descriptor

    @property
    def found(self) -> os.stat_result:
        """What the system said of that folder when it was entered."""
        return self._levels[-1].found

    def enter(self, name: bytes) -> None:
        """Go down. Raises OSError, staying where it is."""
        descriptor = open_folder(name, self.folder)
        self._levels.append(_Level(os.fstat(descriptor), descriptor))
        if len(self._levels) > _OPEN_FOLDERS + 1:
            self._close(self._levels[-_OPEN_FOLDERS - 1])

    def leave(self) -> None:
        """Go up. Raises OSError, and then the walk is over."""
        left = self._levels.pop()
        above = self._levels[-1]
        try:
            if above.descriptor < 0:
                above.descriptor = open_folder(b"..", left.descriptor)
                if not os.path.samestat(os.fstat(above.descriptor), above.found):
                    raise OSError(errno.ESTALE, "it was moved meanwhile")
        finally:
            os.close(left.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for level in self._levels[1:]:
            self._close(level)

    @staticmethod
    def _close(level: _Level) -> None:
        if level.descriptor >= 0:
            os.close(level.descriptor)
            level.descriptor = -1
