"""backup-tool: the commands, and the one place where errors become a line and an exit code.

Kept true: whatever happens, a person gets one clear line and no traceback; docs/exit-codes.md has the codes.
Commands import what they need when they run, so that the program starts fast.
"""

import json
import os
import secrets
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from client import interrupts
from client.account.home import Home, locate
from client.cli import (
    backup,
    check,
    device_list,
    diff,
    dump,
    find,
    jobs,
    login,
    logout,
    ls,
    password_change,
    password_recover,
    password_recovery_code,
    restore,
    snapshots,
    stats,
    status,
    tag,
    vault_add,
    vault_list,
    vault_recovery,
    vault_request,
    vault_templates,
    version,
)
from client.cli import (
    note as note_command,
)
from client.cli.console import flush, note, say
from client.cli.invocation import Invocation
from client.errors import OortError, OutputLost, ReaderGone, UsageError
from client.version import VERSION

PROGRAM = "backup-tool"
INTERRUPTED_EXIT_CODE = 130
_DIGITS = 8

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="BACKUP_TOOL_HOME", help="This device's folder; one home is one device."),
]
VersionOption = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)]


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Back up to vaults that only you can read.",
        invoke_without_command=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    app.callback()(_begin)
    for command in (
        login.login,
        logout.logout,
        status.status,
        backup.backup,
        snapshots.snapshots,
        tag.tag,
        note_command.note,
        ls.ls,
        find.find,
        diff.diff,
        stats.stats,
        restore.restore,
        dump.dump,
        jobs.jobs,
        check.check,
        version.version,
    ):
        app.command()(command)
    groups: dict[str, tuple[str, dict[str, Callable[..., object]]]] = {
        "vault": (
            "Vaults: where backups lie.",
            {
                "request": vault_request.vault_request,
                "add": vault_add.vault_add,
                "list": vault_list.vault_list,
                "recovery": vault_recovery.vault_recovery,
                "templates": vault_templates.vault_templates,
            },
        ),
        "password": (
            "The password and the recovery code.",
            {
                "change": password_change.password_change,
                "recovery-code": password_recovery_code.password_recovery_code,
                "recover": password_recover.password_recover,
            },
        ),
        "device": ("The account's devices.", {"list": device_list.device_list}),
    }
    for name, (text, commands) in groups.items():
        group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        for title, function in commands.items():
            group.command(title)(function)
        app.add_typer(group, name=name)
    return app


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and answer its exit code."""
    as_json = "--json" in arguments
    try:
        answer = build()(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        flush()
    except typer.TyperException as error:
        return _tell_usage(error, as_json=as_json)
    except OortError as error:
        return _tell(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return tell_interrupted(arguments)
    except SystemExit:  # typer's, when its help is not read to the end
        return ReaderGone.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: a report in the home, one line for the person
        return _tell_unexpected(error, arguments, as_json=as_json)
    return _ended(answer, as_json=as_json)


def tell_interrupted(arguments: Sequence[str]) -> int:
    return _tell_text("interrupted.", "Interrupted", INTERRUPTED_EXIT_CODE, as_json="--json" in arguments)


def _begin(context: typer.Context, home: HomeOption = None, show_version: VersionOption = False) -> None:
    if show_version:
        say(f"{PROGRAM} {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(UsageError.exit_code)
    context.obj = Invocation.make(home)


def _ended(answer: object, *, as_json: bool) -> int:
    """A command's own exit code; an interruption comes as one too, for typer takes it."""
    if answer == INTERRUPTED_EXIT_CODE:
        return tell_interrupted(["--json"] if as_json else [])
    return answer if isinstance(answer, int) else 0


def _tell_usage(error: typer.TyperException, *, as_json: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        with suppress(OutputLost):
            say(str(error))  # the help of a group of commands
        return UsageError.exit_code
    return _tell(UsageError(detail=getattr(error, "format_message", error.__str__)()), as_json=as_json)


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
