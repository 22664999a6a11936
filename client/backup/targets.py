"""The paths that a backup was given, as a tree from the root of the file system, as restic lays it out."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from client.errors import UsageError, reason_of


@dataclass(slots=True)
class Target:
    """A folder on the way to what was asked for, or what was asked for itself (`whole`)."""

    path: bytes
    whole: bool = False
    below: dict[bytes, "Target"] = field(default_factory=dict)


def absolute_paths(paths: Sequence[bytes]) -> tuple[bytes, ...]:
    """The paths as the snapshot names them: absolute, without `..`, each once.

    A link that was given with a slash at its end means the folder behind it, and keeps the slash; so does a path that
    was answered here before. Raises UsageError if one does not exist, or none is given.
    """
    if not paths:
        raise UsageError(detail="nothing to back up: give at least one path")
    for path in paths:
        if b"\0" in path or not path:
            raise UsageError(detail=f"{os.fsdecode(path)!r} is no path")
        try:
            os.lstat(path)
        except OSError as error:
            reason = reason_of(error)
            raise UsageError(detail=f"cannot back up {os.fsdecode(path)}: {reason}") from None
    found = {_absolute(path) for path in paths}
    return tuple(sorted({_as_reached(path, found) for path in found}))


def links_among(paths: Sequence[bytes]) -> list[bytes]:
    """Those of the absolute paths that are links and stand for nothing but themselves."""
    return [path for path in paths if not path.endswith(b"/") and os.path.islink(path)]


def target_tree(paths: Collection[bytes]) -> Target:
    """The root folder, with the given absolute paths below it; a path below another one given is part of that."""
    root = Target(b"/")
    for path in sorted(paths):
        here = root
        names = [name for name in path.split(b"/") if name]
        for name in names:
            if here.whole:
                break
            here = here.below.setdefault(name, Target(os.path.join(here.path, name)))
        else:
            if names and path.endswith(b"/"):
                here.path += b"/"  # the system follows the link then
        here.whole = True
        here.below.clear()
    return root


def _absolute(path: bytes) -> bytes:
    """The path without `..`, which means the folder above the one that a link leads to, not above the link."""
    names = path.split(b"/")
    is_folder = names[-1] in (b"", b".")
    while names and names[-1] in (b"", b"."):
        names.pop()
    if b".." not in names:
        # os.path.abspath keeps two slashes at the beginning, which POSIX lets a system give a meaning; Linux has none.
        absolute = b"/" + os.path.abspath(path).lstrip(b"/")
    elif names[-1] == b"..":
        return os.path.realpath(path)
    else:
        absolute = _resolved(b"/".join(names))
    return absolute + b"/" if is_folder and os.path.islink(absolute) else absolute


def _resolved(path: bytes) -> bytes:
    """Where the path is; if it is a link itself, it stays one."""
    above, name = os.path.split(path)
    return os.path.join(os.path.realpath(above), name) if name else os.path.realpath(path)


def _as_reached(path: bytes, given: Collection[bytes]) -> bytes:
    """The path itself; or, if it is behind a link that is stored as a link with a path above, where it really is."""
    whole = path.rstrip(b"/")
    ends = [at for at, byte in enumerate(whole) if byte == ord("/")] + ([len(whole)] if path != whole else [])
    is_inside = False
    for end in ends:
        above = path[:end] or b"/"
        is_inside = is_inside or above in given
        if is_inside and os.path.islink(above):
            return _resolved(path)
        is_inside = is_inside or above + b"/" in given
    return path
