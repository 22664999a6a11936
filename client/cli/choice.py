"""What is to be backed up, from the words of a command line and the files that it names.

Kept true: whatever is wrong with them is told here, before anything is done.
"""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import UsageError, reason_of

if TYPE_CHECKING:
    from client.backup.request import Warned
    from client.backup.selection import Marker
    from client.backup.stream import Stream
    from client.vault.sealing import Compression

_STANDARD_INPUT = "-"


@dataclass(slots=True)
class ListedPaths:
    """Paths that the files `names` list; `missing` are those that there are not."""

    names: Sequence[str] = ()
    paths: list[bytes] = field(default_factory=list)
    missing: "list[Warned]" = field(default_factory=list)


def listed_paths(globs: Sequence[str], verbatim: Sequence[str], raw: Sequence[str]) -> ListedPaths:
    """The paths in the named files: globs, one a line with comments; one a line; or with a NUL after each.

    Raises UsageError for a file that cannot be read or lists nothing.
    """
    files = [*globs, *verbatim, *raw]
    listed = ListedPaths(files)
    for readers, names in ((_globs, globs), (_lines, verbatim), (_terminated, raw)):
        for name in names:
            paths = list(readers(name, _content(name)))
            if not paths:
                raise UsageError(detail=f"{_called(name)} lists no path")
            for path in paths:
                _take(listed, path)
    if files and not listed.paths:
        raise UsageError(detail=f"none of the paths in {', '.join(map(_called, files))} exists")
    return listed


def ensure_read_once(*files: Sequence[str] | None) -> None:
    """See that at most one of the named files is standard input. Raises UsageError."""
    if [name for names in files for name in names or ()].count(_STANDARD_INPUT) > 1:
        raise UsageError(detail="standard input can be read once only: name - once")


def file_patterns(files: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The patterns in the files, in order. Raises UsageError."""
    from client.patterns import read_patterns

    for file in files:
        content = _content(file).removeprefix(codecs.BOM_UTF8)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = os.fsdecode(content)  # names need not be text, and patterns for them neither
        yield from read_patterns(text, environment)


def compression_of(text: str) -> "Compression":
    """Raises UsageError."""
    from client.vault.sealing import Compression

    try:
        return Compression(text)
    except ValueError:
        raise UsageError(detail=f"--compression is {', '.join(Compression)}, and not {text!r}") from None


def marker_of(text: str) -> "Marker":
    """The marker of `NAME` or `NAME:HEADER`. Raises UsageError."""
    from client.backup.selection import Marker

    name, _, header = text.partition(":")
    if not name or "/" in name:
        raise UsageError(detail=f"{text!r} is no name of a file, or such a name, a colon and how the file begins")
    return Marker(os.fsencode(name), os.fsencode(header))


def stream_of(words: Sequence[str], *, stdin: bool, command: bool) -> "Stream | None":
    """The stream that is to be backed up, if it is one; `words` stand beside the options. Raises UsageError."""
    from client.backup.programs import ProgramOutput
    from client.backup.stream import StandardInput

    if stdin and command:
        raise UsageError(detail="give --stdin or --stdin-command, not both")
    if command:
        return ProgramOutput(words)
    if not stdin:
        return None
    if words:
        raise UsageError(detail="--stdin takes no PATH: what it is called in the snapshot is --stdin-filename")
    if sys.stdin.isatty():
        raise UsageError(detail="standard input is a terminal: pipe into it what is to be backed up")
    return StandardInput()


def _take(listed: ListedPaths, path: bytes) -> None:
    from client.backup.request import Warned

    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        # It was there when the list was made, or the list is old: the others are to be backed up.
        listed.missing.append(Warned(path, f"is in a list of paths: {reason_of(error)}"))
    else:
        listed.paths.append(path)


def _globs(_name: str, content: bytes) -> Iterator[bytes]:
    for line in _text_lines(content):
        pattern = line.strip()
        if not pattern or pattern.startswith(b"#"):
            continue
        if not glob.has_magic(pattern):
            yield pattern
            continue
        yield from sorted(glob.glob(pattern, include_hidden=True)) or [pattern]  # noqa: PTH207 - names are bytes


def _lines(_name: str, content: bytes) -> Iterable[bytes]:
    return filter(None, _text_lines(content))


def _text_lines(content: bytes) -> list[bytes]:
    """The lines of a text as Unix or Windows ends them; a mark at its beginning that it is UTF-8 is no part of it."""
    return [line.removesuffix(b"\r") for line in content.removeprefix(codecs.BOM_UTF8).split(b"\n")]


def _terminated(name: str, content: bytes) -> Iterable[bytes]:
    if content and not content.endswith(b"\0"):
        raise UsageError(detail=f"{_called(name)} is cut off: there must be a NUL after each path, also the last")
    paths = content.split(b"\0")[:-1]
    if b"" in paths:
        raise UsageError(detail=f"{_called(name)} has an empty path")
    return paths


def _content(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(detail=f"cannot read {_called(name)}: {reason_of(error)}") from None


def _called(name: str) -> str:
    return "standard input" if name == _STANDARD_INPUT else name
