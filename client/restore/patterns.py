"""Which paths of a snapshot are wanted, by glob patterns.

A pattern is matched against whole components of the path in the snapshot. One that begins with `/` is matched from the
root, any other from every folder. `*`, `?` and `[...]` do not match a `/`; `**` stands for any number of folders.
What matches a folder takes everything below it.
"""

import fnmatch
import os
import re
from collections.abc import Sequence
from enum import Enum

from client.errors import NoSuchPath, UsageError


class NothingMatches(NoSuchPath):
    """No path of snapshot {snapshot} matches {patterns}: `backup-tool ls` lists what it has."""


class Wanted(Enum):
    """What to do with a path."""

    YES = "it, and all below it"
    BELOW = "perhaps something below it"
    NO = "neither it nor anything below it"


class Includes:
    """A set of patterns; the empty set wants everything. Raises UsageError for an empty pattern."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_Pattern(pattern) for pattern in patterns]

    def look(self, path: bytes) -> Wanted:
        """Judge an absolute path of the snapshot, none of whose folders was judged YES or NO."""
        if not self._patterns:
            return Wanted.YES
        parts = tuple(os.fsdecode(part) for part in path.split(b"/") if part)
        best = Wanted.NO
        for pattern in self._patterns:
            found = pattern.look(parts)
            if found is Wanted.YES:
                return found
            if found is Wanted.BELOW:
                best = found
        return best


class _Pattern:
    def __init__(self, pattern: str) -> None:
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if not parts:
            raise UsageError(detail=f"the pattern {pattern!r} matches nothing: give a path or a glob such as '*.txt'")
        if not pattern.startswith("/"):
            parts.insert(0, "**")
        self._parts = [None if part == "**" else re.compile(fnmatch.translate(part), re.DOTALL) for part in parts]

    def look(self, path: tuple[str, ...]) -> Wanted:
        # The states a walk over the pattern may be in after each component: positions in the pattern.
        states = self._skip({0})
        if len(self._parts) in states:
            return Wanted.YES
        for part in path:
            following: set[int] = set()
            for state in states:
                expected = self._parts[state]
                if expected is None:
                    following.add(state)
                elif expected.match(part):
                    following.add(state + 1)
            states = self._skip(following)
            if len(self._parts) in states:
                return Wanted.YES
        return Wanted.BELOW if states else Wanted.NO

    def _skip(self, states: set[int]) -> set[int]:
        """With the positions after each `**` that may stand for nothing."""
        reached = set(states)
        for state in states:
            following = state
            while following < len(self._parts) and self._parts[following] is None:
                following += 1
                reached.add(following)
        return reached
