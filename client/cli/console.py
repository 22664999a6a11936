"""What a person, or a script, gets to see: plain lines, JSON, and nothing that could steer a terminal.

Kept true: with --json standard output holds JSON and nothing else; names that come from a vault or a server are
shown with their control characters escaped. Who only shows something ends quietly when its reader has gone; who has
done something says so then too.
"""

import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from client.errors import OortError, OutputLost, ReaderGone
from domain.wording import plural as plural  # noqa: PLC0414 - one of the texts that commands take from here

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
# A byte of a name that is no UTF-8 becomes one of these (os.fsdecode).
_FIRST_STRAY_BYTE, _LAST_STRAY_BYTE = "\udc80", "\udcff"


def say(text: str) -> None:
    """A line on standard output. Raises OutputLost, ReaderGone."""
    with written():
        print(text)  # noqa: T201 - this is where lines are printed


def note(text: str) -> None:
    """A line beside the result: on standard error, so that a pipe gets the result alone.

    What cannot be written there cannot be told at all, and stops nothing.
    """
    with suppress(OSError):
        print(text, file=sys.stderr)  # noqa: T201


def emit(document: Any) -> None:
    """One JSON document on a line of its own, at once. Raises OutputLost, ReaderGone."""
    with written():
        print(json.dumps(document), flush=True)  # noqa: T201


def error_fields(error: OortError) -> dict[str, object]:
    """What JSON says of an error."""
    return {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}


def emit_array(documents: Iterable[Any]) -> None:
    """A JSON array, one document a line, written as they come. Raises OutputLost, ReaderGone."""
    opened = "[\n"
    for document in documents:
        with written():
            sys.stdout.write(opened + json.dumps(document))
        opened = ",\n"
    with written():
        sys.stdout.write("[]\n" if opened == "[\n" else "\n]\n")
        sys.stdout.flush()


def list_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, written as they come. Raises OutputLost, ReaderGone."""
    for line in lines:
        with written():
            print(line)  # noqa: T201
    with written():
        sys.stdout.flush()


def flush() -> None:
    """See that all of the result is written. Raises OutputLost, ReaderGone."""
    with written():
        sys.stdout.flush()


@contextmanager
def telling(done: str) -> Iterator[None]:
    """Around what tells of something that is done: if that cannot be written, OutputLost says what is `done`."""
    try:
        yield
        flush()
    except OutputLost as lost:
        raise OutputLost(reason=f"{lost.fields['reason']}; {done}") from None


@contextmanager
def written() -> Iterator[None]:
    """Around whatever is written to standard output. Raises OutputLost, ReaderGone."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone(reason=error.strerror) from None
    except OSError as error:
        raise OutputLost(reason=error.strerror or error) from None


def printable(text: str) -> str:
    """Text from elsewhere as one line that only shows: what is not printable is escaped, a stray byte by its number."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if _FIRST_STRAY_BYTE <= character <= _LAST_STRAY_BYTE:
        return f"\\x{ord(character) & 0xFF:02x}"
    return character.encode("unicode_escape").decode("ascii")


def path_fields(path: bytes) -> dict[str, str]:
    """A path for JSON; where it is no UTF-8, with its bytes in Base64 as `path_raw`."""
    text = os.fsdecode(path)
    if text.isascii() or not any(_FIRST_STRAY_BYTE <= character <= _LAST_STRAY_BYTE for character in text):
        return {"path": text}
    return {"path": text, "path_raw": base64.b64encode(path).decode()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns on standard output. Raises OutputLost, ReaderGone."""
    list_lines(table_lines(head, rows))


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they need to be; lines are never cut or wrapped."""
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def size_text(size: float) -> str:
    """Bytes as a person reads them: 1.5 MiB."""
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    raise AssertionError("the last unit takes all")


def time_text(ns: int) -> str:
    """Nanoseconds since 1970 as a person reads a time: 2026-01-31 17:30:00, in UTC."""
    from client.vault.times import format_time

    return format_time(ns)[:19].replace("T", " ")


def duration_text(seconds: float) -> str:
    """Seconds as a person reads them: 2:05:09, 5:09, 9.1 s."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
