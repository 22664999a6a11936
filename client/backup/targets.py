"""The paths that a backup was given, as a tree from the root of the file system, as restic lays it out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from client.errors import UsageError


@dataclass(slots=True)
class Target:
    """A folder on the way to what was asked for, or what was asked for itself (`whole`)."""

    path: bytes
    whole: bool = False
    below: dict[bytes, "Target"] = field(default_factory=dict)


def absolute_paths(paths: Sequence[bytes]) -> tuple[bytes, ...]:
    """The paths as the snapshot names them: absolute, without `..`, each once.

    Raises UsageError if one does not exist, or none is given.
    """
    if not paths:
        raise UsageError(detail="nothing to back up: give at least one path")
    for path in paths:
        if b"\0" in path or not path:
            raise UsageError(detail=f"{os.fsdecode(path)!r} is no path")
        try:
            os.lstat(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(detail=f"cannot back up {os.fsdecode(path)}: {reason}") from None
    return tuple(sorted({os.path.abspath(path) for path in paths}))


def target_tree(paths: Sequence[bytes]) -> Target:
    """The root folder, with the given absolute paths below it; a path below another one given is part of that."""
    root = Target(b"/")
    for path in sorted(paths):
        here = root
        for name in path.split(b"/"):
            if here.whole:
                break
            if name:
                here = here.below.setdefault(name, Target(os.path.join(here.path, name)))
        here.whole = True
        here.below.clear()
    return root
