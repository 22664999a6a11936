"""What this device has lately stored in a vault, so that a later command knows an old list when it is to remove things.

Kept true: a name is here before it is stored, for a command that fails or is killed may have stored it, and until it is
removed or a week has passed. What the store says it has not is forgotten an hour later at the earliest: it may be about
to be stored, or to be shown. A folder that is full or cannot be written remembers nothing: then an old list is
believed, as it is of what other devices have stored.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from domain.names import BadName, ObjectKind, ObjectName

KINDS = frozenset((ObjectKind.SNAPSHOT, ObjectKind.INDEX))  # a prune that does not see one of them removes its packs
_KEPT_SECONDS = 7 * 24 * 3600  # lists of stores are late by seconds, at worst by hours
_DOUBTED_SECONDS = 3600


class Remembered:
    """A folder of empty files, by kind and id, as several processes may add and forget at once; None is no folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def add(self, name: ObjectName) -> None:
        if self._folder is not None and name.kind in KINDS:
            with suppress(OSError):
                self._place(self._folder, name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._place(self._folder, name).touch(mode=0o600)

    def forget(self, names: Iterable[ObjectName]) -> None:
        """Those that are no more, known here or not."""
        if self._folder is not None:
            for name in names:
                if name.kind in KINDS:
                    with suppress(OSError):
                        self._place(self._folder, name).unlink(missing_ok=True)

    def forget_missing(self, names: Iterable[ObjectName]) -> None:
        """Those that the store says it has not, unless they are too young for that to be true for long."""
        if self._folder is not None:
            oldest = time.time() - _DOUBTED_SECONDS
            for name in names:
                with suppress(OSError):
                    if self._place(self._folder, name).stat().st_mtime < oldest:
                        self.forget([name])

    def of(self, kind: ObjectKind) -> frozenset[ObjectName]:
        """What was stored of a kind; what is too long ago is forgotten."""
        if self._folder is None:
            return frozenset()
        try:
            paths = list((self._folder / kind.value).iterdir())
        except OSError:
            return frozenset()
        names = set()
        oldest = time.time() - _KEPT_SECONDS
        for path in paths:
            with suppress(OSError, BadName):  # forgotten by another process meanwhile, or somebody else's
                if path.stat().st_mtime < oldest:
                    path.unlink()
                else:
                    names.add(ObjectName(kind, path.name))
        return frozenset(names)

    @staticmethod
    def _place(folder: Path, name: ObjectName) -> Path:
        return folder / name.kind.value / name.id
