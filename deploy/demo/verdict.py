"""What became of a restored tree: equal to its original, or where not, and whether that is anyone's fault.

Kept true: a difference is forgiven only when the original itself was changed after the backup began (its status-change
time says so), when the backup has named the path as unreadable, or when the kernel lets only root restore it.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from client.restore.compare import Difference, differences

# Attributes in these spaces can be set by root alone.
_ROOTS_ATTRIBUTES = ("has another attribute security.", "has another attribute trusted.")


@dataclass(slots=True)
class Comparison:
    """What was restored (size in bytes), and sentences about what differs."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    different: list[str] = field(default_factory=list)
    changed_meanwhile: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What may differ; `began_ns` is when the backup began, in nanoseconds since 1970."""

    began_ns: int
    unreadable: frozenset[Path]
    as_root: bool


def compare(original: Path, restored: Path, expectation: Expectation) -> Comparison:
    """Compare two trees, entry by entry."""
    found = Comparison()
    _count(restored, found)
    skipped = frozenset(
        os.fsencode(path.relative_to(original)) for path in expectation.unreadable if path.is_relative_to(original)
    )
    for difference in differences(original, restored, owners=expectation.as_root, skipped=skipped):
        place = original / os.fsdecode(difference.path)
        if _is_forgiven(difference, place, expectation):
            continue
        kept = found.changed_meanwhile if _changed_since(place, expectation.began_ns) else found.different
        kept.append(f"{place} {difference.what}")
    return found


def equality(*, unreadable: bool, changed: bool) -> str:
    """What may truly be said when no difference is anyone's fault."""
    which = " and ".join(
        [*(["could be read"] if unreadable else []), *(["did not change meanwhile"] if changed else [])]
    )
    return f"Every file that {which} equals its original." if which else "Every restored file equals its original."


def _is_forgiven(difference: Difference, original: Path, expectation: Expectation) -> bool:
    if not expectation.as_root and difference.what.startswith(_ROOTS_ATTRIBUTES):
        return True
    # A socket is nothing without the server that made it, and is not backed up.
    return original.is_socket() and not original.is_symlink()


def _changed_since(original: Path, began_ns: int) -> bool:
    """Whether the original, or the folder that it was removed from, was touched after the backup began."""
    while True:
        try:
            return original.lstat().st_ctime_ns >= began_ns
        except FileNotFoundError:
            original = original.parent


def _count(restored: Path, found: Comparison) -> None:
    for parent, folders, names in os.walk(restored):
        found.folders += 1
        for name in (*folders, *names):
            status = Path(parent, name).lstat()
            if stat.S_ISREG(status.st_mode):
                found.files += 1
                found.bytes += status.st_size
            elif stat.S_ISLNK(status.st_mode):
                found.links += 1
