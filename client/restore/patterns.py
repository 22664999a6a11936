"""Which paths of a snapshot are wanted, by patterns (client/patterns.py)."""

import os
from collections.abc import Sequence
from enum import Enum

from client.errors import NoSuchPath, UsageError
from client.patterns import Pattern


class NothingMatches(NoSuchPath):
    """No path of snapshot {snapshot} matches {patterns}: `backup-tool ls` lists what it has."""


class Wanted(Enum):
    """What to do with a path."""

    YES = "it, and all below it"
    BELOW = "perhaps something below it"
    NO = "neither it nor anything below it"


class Includes:
    """A set of patterns, some of which do not tell capitals from small letters; the empty set wants everything.

    Raises UsageError for a pattern that is none, and for one that begins with `!`: an include takes nothing away.
    """

    def __init__(self, patterns: Sequence[str], ignoring_case: Sequence[str] = ()) -> None:
        for pattern in (*patterns, *ignoring_case):
            if pattern.startswith("!"):
                raise UsageError(
                    detail=f"the pattern {pattern!r} takes nothing: leave out with --exclude, "
                    "or write '\\!' for the character"
                )
        self._patterns = [Pattern(pattern) for pattern in patterns]
        self._patterns += [Pattern(pattern, ignore_case=True) for pattern in ignoring_case]

    def look(self, path: bytes) -> Wanted:
        """Judge an absolute path of the snapshot, none of whose folders was judged YES or NO."""
        text = os.fsdecode(path)
        if not self._patterns or any(pattern.matches(text) for pattern in self._patterns):
            return Wanted.YES
        if any(pattern.may_match_below(text) for pattern in self._patterns):
            return Wanted.BELOW
        return Wanted.NO
