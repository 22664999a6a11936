"""backup-tool: the commands, and the one place where errors become a line and an exit code.

Kept true: whatever happens, a person gets one clear line and no traceback; docs/exit-codes.md has the codes.
A command is imported when it is run, and imports what it needs, so that the program starts fast.
"""

import json
import os
import secrets
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import click

from client import interrupts
from client.account.home import Home, locate
from client.cli.commands import CommandGroup, make_program
from client.cli.console import flush, note, say
from client.cli.invocation import Invocation
from client.cli.parameters import Option
from client.errors import OortError, OutputLost, ReaderGone, UsageError
from client.version import VERSION

PROGRAM = "backup-tool"
INTERRUPTED_EXIT_CODE = 130
_DIGITS = 8

HomeOption = Annotated[
    Path | None,
    Option("--home", envvar="BACKUP_TOOL_HOME", help="This device's folder; one home is one device."),
]
VersionOption = Annotated[bool, Option("--version", help="Print the version.", is_eager=True)]


def build() -> CommandGroup:
    """The whole command line."""
    return make_program(PROGRAM, "Back up to vaults that only you can read.", _begin)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and answer its exit code."""
    as_json = "--json" in arguments
    try:
        answer = _carry_out(arguments)
        flush()
    except click.ClickException as error:
        return _tell_usage(error, as_json=as_json)
    except OortError as error:
        return _tell(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return tell_interrupted(arguments)
    except Exception as error:  # noqa: BLE001 - the last resort: a report in the home, one line for the person
        return _tell_unexpected(error, arguments, as_json=as_json)
    return answer if isinstance(answer, int) else 0


def tell_interrupted(arguments: Sequence[str]) -> int:
    return _tell_text("interrupted.", "Interrupted", INTERRUPTED_EXIT_CODE, as_json="--json" in arguments)


def _carry_out(arguments: Sequence[str]) -> object:
    """What the command answers. Not by click's own `main`, which has words of its own for interruptions and pipes."""
    try:
        with build().make_context(PROGRAM, list(arguments)) as context:
            return context.command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code


def _begin(context: click.Context, home: HomeOption = None, show_version: VersionOption = False) -> None:
    if show_version:
        say(f"{PROGRAM} {VERSION}")
        context.exit()
    if context.invoked_subcommand is None:
        say(context.get_help())
        context.exit(UsageError.exit_code)
    context.obj = Invocation.make(home)


def _tell_usage(error: click.ClickException, *, as_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        with suppress(OutputLost):
            say(error.format_message())  # the help of a group of commands
        return UsageError.exit_code
    return _tell(UsageError(detail=error.format_message()), as_json=as_json)


def _tell(error: OortError, *, as_json: bool) -> int:
    if isinstance(error, ReaderGone):
        return error.exit_code
    return _tell_text(str(error), type(error).__name__, error.exit_code, as_json=as_json)


def _tell_text(text: str, kind: str, exit_code: int, *, as_json: bool) -> int:
    if as_json:
        document = {"type": "error", "error": kind, "message": _one_line(text), "exit_code": exit_code}
        note(json.dumps(document))
    else:
        note(f"{PROGRAM}: {_one_line(text)}")
    return exit_code


def _tell_unexpected(error: Exception, arguments: Sequence[str], *, as_json: bool) -> int:
    """Write a report: the traceback, which holds no values, and which command it was."""
    if interrupts.was_interrupted():  # while native code ran, which made another error of it
        return tell_interrupted(arguments)
    number = secrets.token_hex(_DIGITS // 2)
    lines = traceback.format_exception(error)
    report = f"{PROGRAM} {VERSION}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}, error {number}\n"
    report += "".join(lines)
    text = f"unexpected error {number} ({type(error).__name__})"
    try:
        home = Home(locate(_home_option(arguments), os.environ))
        home.write(f"logs/error-{number}.log", report.encode(errors="replace"))
    except OortError as unwritten:
        text += f"; no report could be written: {unwritten}"
    else:
        text += f"; the report is {home.folder / 'logs' / f'error-{number}.log'}, for your provider."
    return _tell_text(text, "UnexpectedError", OortError.exit_code, as_json=as_json)


def _home_option(arguments: Sequence[str]) -> Path | None:
    """The value of --home, read again because the failure may lie before it was understood."""
    for place, argument in enumerate(arguments):
        if argument == "--home" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--home="):
            return Path(argument.partition("=")[2])
    return None


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in joined)
