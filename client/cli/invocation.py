"""What every command is given: the home to use, and how to read secrets."""

import gc
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.account import home as homes
from client.cli.console import note, printable
from client.cli.parameters import Argument, Option
from client.errors import UsageError

if TYPE_CHECKING:
    from client.account.device import Device

Json = Annotated[bool, Option("--json", help="Answer in JSON.")]
VaultName = Annotated[str, Option("--vault", help="Name of the vault.")]
SnapshotName = Annotated[str, Argument(help="`latest`, an id, or the beginning of one.", metavar="SNAPSHOT")]
AllDevices = Annotated[bool, Option("--all-devices", help="Also what other devices of the account backed up.")]
PasswordStdin = Annotated[bool, Option("--password-stdin", help="Read it from standard input, without asking.")]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the program."""

    home: homes.Home
    limits: Mapping[str, str] = field(default_factory=dict)  # of the line, as given with the command

    @classmethod
    def of(cls, context: click.Context) -> "Invocation":
        """The one that a command was given. From here on it works, so garbage is collected as ever (start.py).

        But not looked for in what the program has imported: 25 ms of each command.
        """
        found = context.find_object(cls)
        if found is None:
            raise AssertionError("the program's own callback makes it")
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return found

    @classmethod
    def make(cls, option: Path | None) -> "Invocation":
        return cls(homes.Home(homes.locate(option, os.environ)))

    def device(self) -> "Device":
        """This device, logged in. Raises NotLoggedIn."""
        from client.account.device import Device

        return Device(self.home, dict(self.limits), lambda text: note(printable(f"backup-tool: {text}")))


def read_secrets(prompts: Sequence[str], *, from_stdin: bool, option: str = "", confirm: str = "") -> list[str]:
    """Secrets in the order of `prompts`: one a line of standard input, or asked for on the terminal.

    `confirm` names the prompt whose answer is asked for twice. Raises UsageError.
    """
    if from_stdin:
        try:
            lines = sys.stdin.read().splitlines()
        except UnicodeDecodeError:
            raise UsageError(detail="Standard input is not valid UTF-8 text.") from None
        if len(lines) != len(prompts):
            expected = "one line" if len(prompts) == 1 else f"{len(prompts)} lines"
            asked = ", ".join(prompt.lower() for prompt in prompts)
            raise UsageError(detail=f"Standard input must hold {expected} ({asked}), not {len(lines)}.")
        return lines
    if not sys.stdin.isatty():
        raise UsageError(detail=f"There is no terminal to ask on: give it on standard input with {option}.")
    answers = []
    for prompt in prompts:
        answer = getpass.getpass(f"{prompt}: ")
        if prompt == confirm and getpass.getpass(f"{prompt} again: ") != answer:
            raise UsageError(detail="The two entries differ.")
        answers.append(answer)
    return answers
