"""What of the given paths is left out of a backup because a person wants it so. It is no warning.

Kept true: a folder that is left out is not entered, so nothing in it can be taken in again; with no rules nothing is
looked at twice. Judged in the order of cost: by path, by what the scan knows already, by what must be asked for.
"""

import os
import stat
from dataclasses import dataclass
from typing import Any

from client.errors import UsageError
from client.patterns import PatternList
from client.platforms.linux import nodump_reader, open_for_reading


@dataclass(frozen=True, slots=True)
class Marker:
    """A file whose presence says that what lies beside it is to be left out, if it begins with `header`."""

    name: bytes
    header: bytes = b""


CACHE_TAG = Marker(b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55")  # https://bford.info/cachedir/


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules of one backup. `larger_than` in bytes; `expressions` in RE2's syntax, found anywhere in a path."""

    excludes: tuple[str, ...] = ()
    iexcludes: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    markers: tuple[Marker, ...] = ()
    larger_than: int | None = None
    one_file_system: bool = False
    nodump: bool = False


EVERYTHING = Selection()


class Selector:
    """The rules, ready to judge. Raises UsageError for a pattern or expression that is none."""

    def __init__(self, selection: Selection) -> None:
        self._excludes = PatternList(selection.excludes)
        self._iexcludes = PatternList(selection.iexcludes, ignore_case=True)
        self._expressions = [compiled(expression) for expression in selection.expressions]
        self._by_path = bool(selection.excludes or selection.iexcludes or selection.expressions)
        self._markers = selection.markers
        self._larger_than = selection.larger_than
        self._has_nodump = nodump_reader() if selection.nodump else None
        if selection.nodump and self._has_nodump is None:
            raise UsageError(detail="this system's C library cannot tell which files have the nodump flag")
        self.one_file_system = selection.one_file_system
        self.wants_all_files = not (
            self._by_path or selection.larger_than is not None or selection.nodump or selection.one_file_system
        )  # that no marker speaks against

    def leaves_out_path(self, path: bytes) -> bool:
        """Whether an absolute path is left out for what it is called, whatever it is."""
        if not self._by_path:
            return False
        text = os.fsdecode(path)
        if self._excludes.matches(text) or self._iexcludes.matches(text):
            return True
        if not self._expressions:
            return False
        text = path.decode(errors="replace")  # as Go does, for which these expressions were written
        return any(expression.search(text) for expression in self._expressions)

    def leaves_out(self, path: bytes, found: os.stat_result) -> bool:
        """Whether what is at the path is left out for what it is."""
        is_file = stat.S_ISREG(found.st_mode)
        if is_file and self._larger_than is not None and found.st_size > self._larger_than:
            return True
        has_nodump = self._has_nodump
        return has_nodump is not None and (is_file or stat.S_ISDIR(found.st_mode)) and has_nodump(path)

    def kept_of(self, folder: bytes, names: list[bytes]) -> list[bytes]:
        """Those of a folder's names that are not left out for what else lies in the folder.

        The marker itself is kept, as restic does: a restored cache is known as one.
        """
        for marker in self._markers:
            if marker.name in names and _begins_with(os.path.join(folder, marker.name), marker.header):
                return [marker.name]
        return names


def compiled(expression: str) -> Any:
    """A regular expression in RE2's syntax, which costs linear time whatever it says. Raises UsageError."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise UsageError(detail=f"the regular expression {expression!r} is not right: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode(errors="replace") if isinstance(told, bytes) else "it is no text"


def _begins_with(path: bytes, header: bytes) -> bool:
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return False
        if not header:
            return True
        opened = open_for_reading(path, found.st_uid)
    except OSError:
        return False  # it is stored with the rest of the folder, or named when it is read
    try:
        return os.read(opened, len(header)) == header
    except OSError:
        return False
    finally:
        os.close(opened)
