"""What of a snapshot is wanted: what the includes take, without what the excludes take.

Kept true: an exclude is stronger than any include, and takes everything below what it matches; excludes mean what they
do to a backup, `!` too.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from client.patterns import PatternList
from client.restore.patterns import Includes, Wanted


@dataclass(frozen=True, slots=True)
class Patterns:
    """Glob patterns as a person gives them; those that begin with `i` do not tell capitals from small letters."""

    includes: Sequence[str] = ()
    excludes: Sequence[str] = ()
    iincludes: Sequence[str] = ()
    iexcludes: Sequence[str] = ()

    @property
    def scope(self) -> str:
        """The same for the same patterns: 64 hex digits, or nothing if there are none."""
        given = [[*some] for some in (self.includes, self.excludes, self.iincludes, self.iexcludes)]
        return sha256(json.dumps(given).encode()).hexdigest() if any(given) else ""


class Selection:
    """Patterns, ready to judge paths. Raises UsageError for an empty pattern."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.including = (*patterns.includes, *patterns.iincludes)
        self._includes = Includes(patterns.includes, patterns.iincludes)
        self._excludes = (PatternList(patterns.excludes), PatternList(patterns.iexcludes, ignore_case=True))
        self.has_excludes = bool(patterns.excludes or patterns.iexcludes)

    def look(self, path: bytes) -> Wanted:
        """Judge an absolute path of the snapshot, none of whose folders was judged NO."""
        if self.has_excludes and any(excludes.matches(os.fsdecode(path)) for excludes in self._excludes):
            return Wanted.NO
        return self._includes.look(path)
