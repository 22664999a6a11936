"""How a command that fails says so: a line on standard error, with --json one JSON object, and the code it ends with.

Kept true: whatever happens, the operator gets no traceback in place of an answer; that of a fault of ours is in a file.
"""

import json
import os
import sys
import tempfile
import traceback
from contextlib import suppress

import click
import typer

from client import interrupts
from client.cli.console import note, printable
from client.errors import OortError, ReaderGone, UsageError


class Interrupted(OortError):
    """interrupted"""

    exit_code = 130


class UnexpectedError(OortError):
    """unexpected error ({kind}), a fault of oort: {report}"""


def tell(error: BaseException, *, as_json: bool) -> int:
    """Say it, and answer the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":
        note(str(error))  # the help of a group of commands
        return UsageError.exit_code
    told = _in_words(error)
    if isinstance(told, ReaderGone):
        _leave_unread()
    elif as_json:
        fields = {"error": type(told).__name__, "message": str(told), "exit_code": told.exit_code}
        note(json.dumps({"type": "error", **fields}))
    else:
        note("\n".join(map(printable, f"oort: {told}".splitlines())))
    return told.exit_code


def _in_words(error: BaseException) -> OortError:
    match error:
        case OortError():
            told = error
        case KeyboardInterrupt() | EOFError() | typer.Abort() | click.Abort():  # of typer's prompts, and of `agree`
            told = Interrupted()
        case typer.TyperException():
            told = UsageError(detail=getattr(error, "format_message", error.__str__)())
        case UnicodeEncodeError():
            told = UsageError(detail=f"'{error.object}' is no UTF-8 text.")
        case BrokenPipeError():
            told = ReaderGone(reason=error.strerror)
        case OSError():
            told = OortError(detail=f"{error.filename or 'the system'}: {error.strerror or error}")
        case _ if interrupts.was_interrupted():  # while native code ran, which made another error of it
            told = Interrupted()
        case _:
            told = UnexpectedError(kind=type(error).__name__, report=_reported(error))
    return told


def _leave_unread() -> None:
    """What is in the buffer would be written, and fail, when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reported(error: BaseException) -> str:
    """Where its traceback is: in a file that only the operator can read."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="oort-error-", suffix=".log")
        with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as unwritten:
        return f"no report of it could be written: {unwritten.strerror}"
    return f"the steps to it are in {path}"
