r"""Patterns for paths, with restic's meaning (internal/filter), for what to back up and what to restore.

A pattern is matched against whole names of an absolute path. One that begins with `/` is matched from the root, any
other from every folder. `*`, `?` and `[...]` match within a name; `**` stands for any number of folders, also none.
`\` takes the meaning from what follows it. What matches a folder matches everything below it.

Kept true: what a pattern says of a path is a regular expression's answer, made once: judging a path costs about half a
microsecond a pattern, and no pattern can make it cost much more.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from client.errors import UsageError

_SOME_FOLDERS = r"(?:/[^/]+)*"
_HERE = r"(?:/|\Z)"  # the end of a name


class Pattern:
    """One pattern; names are text, their stray bytes as `os.fsdecode` has them. Raises UsageError."""

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        self.expression = _expression(text)
        flags = re.IGNORECASE if ignore_case else 0
        self._whole = re.compile(self.expression, flags)
        self._itself = re.compile(rf"(?:{self.expression})\Z", flags)
        self._begun = re.compile(_beginning(text), flags)

    def matches(self, path: str) -> bool:
        """Whether it matches the absolute path, or a folder that the path is in."""
        return self._whole.search(path) is not None

    def matches_itself(self, path: str) -> bool:
        """Whether it matches the absolute path, whatever of the folders that the path is in."""
        return self._itself.search(path) is not None

    def may_match_below(self, path: str) -> bool:
        """Whether something below a folder that it does not match may match."""
        return self._begun.fullmatch(path.rstrip("/")) is not None


class PatternList:
    """Patterns in order, of which the last that matches decides; one that begins with `!` takes paths out again."""

    def __init__(self, texts: Iterable[str], *, ignore_case: bool = False) -> None:
        """Raises UsageError for a pattern that is none."""
        flags = re.IGNORECASE if ignore_case else 0
        signed = [_signed(text) for text in texts]
        groups: list[tuple[bool, re.Pattern[str]]] = [
            (wanted, re.compile("|".join(Pattern(text).expression for _, text in group), flags))
            for wanted, group in groupby(signed, key=lambda pair: pair[0])
        ]
        self._groups = groups[::-1]  # the last decides

    def matches(self, path: str) -> bool:
        """Whether the list takes the absolute path, or a folder that it is in."""
        for wanted, expression in self._groups:
            if expression.search(path):
                return wanted
        return False


def read_patterns(text: str, environment: Mapping[str, str]) -> Iterator[str]:
    """The patterns of a file: one a line; blank lines and those that begin with `#` are none.

    `$NAME` and `${NAME}` stand for variables of `environment`, `$$` for a `$`. Raises UsageError for one that is not
    set: restic takes it as empty, which may turn a pattern for one folder into one for a whole disk.
    """
    for line in text.split("\n"):
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            yield _VARIABLE.sub(lambda found: _value(found, environment), pattern)


_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found[1]:
        return "$"
    name = found[2] or found[3]
    if name not in environment:
        raise UsageError(detail=f"the variable ${name} of a pattern is not set; write $$ for the character $")
    return environment[name]


def _signed(text: str) -> tuple[bool, str]:
    return (False, text[1:]) if text.startswith("!") else (True, text)


def _parts(text: str) -> Sequence[str]:
    """The names of a pattern, without `.` and `..`."""
    parts = [part for part in posixpath.normpath(text).split("/") if part not in ("", ".")] if text else []
    if not parts or ".." in parts:
        raise UsageError(detail=f"the pattern {text!r} matches nothing: give a path or a glob such as '*.txt'")
    return parts


def _expression(text: str) -> str:
    """What `re.search` finds in the absolute paths that match."""
    found = "".join(_SOME_FOLDERS if part == "**" else "/" + _name(part, text) for part in _parts(text))
    return rf"\A{found}{_HERE}" if text.startswith("/") else found + _HERE


def _beginning(text: str) -> str:
    """What fully matches folders below which something may match."""
    if not text.startswith("/"):
        return "(?s:.*)"
    found = ""
    for part in reversed(_parts(text)):
        found = r"(?s:/.*)?" if part == "**" else f"(?:/{_name(part, text)}{found})?"
    return found


def _name(part: str, pattern: str) -> str:
    """A glob within a name as a regular expression. Raises UsageError."""
    parted = [""]  # by `*`
    rest = iter(part)
    for character in rest:
        if character == "*":
            parted.append("")
        elif character == "?":
            parted[-1] += "[^/]"
        elif character == "[":
            parted[-1] += _class(rest, pattern)
        else:
            parted[-1] += re.escape(_literal(character, rest, pattern))
    first, *others = parted
    if not others:
        return first
    # Where a part between two stars is found first it may stay: without that many stars cost hours on a long name.
    return first + "".join(f"(?>[^/]*?{between})" for between in others[:-1]) + f"[^/]*{others[-1]}"


def _class(rest: Iterator[str], pattern: str) -> str:
    """What is between `[` and `]`: characters and ranges, after a `^` or `!` those that do not match."""
    found: list[str] = []
    character = next(rest, "")
    negated = character in ("^", "!") and bool(character)
    if negated:
        character = next(rest, "")
    while character != "]" or not found:
        if character in ("", "]", "-"):
            raise _bad(pattern)
        first = last = _literal(character, rest, pattern)
        character = next(rest, "")
        if character == "-":
            last = _literal(next(rest, ""), rest, pattern)
            character = next(rest, "")
        if not last or last < first:
            raise _bad(pattern)
        found.append(re.escape(first) if first == last else f"{re.escape(first)}-{re.escape(last)}")
    return f"[^/{''.join(found)}]" if negated else f"[{''.join(found)}]"


def _literal(character: str, rest: Iterator[str], pattern: str) -> str:
    if character != "\\":
        return character
    escaped = next(rest, "")
    if not escaped:
        raise _bad(pattern)
    return escaped


def _bad(pattern: str) -> UsageError:
    return UsageError(detail=f"the pattern {pattern!r} is not right: a '[' without its ']', or nothing after a '\\'")
