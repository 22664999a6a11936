"""The commands of `backup-tool`, each imported when it is run, or when a help lists it.

Kept true: `vault list` is the function `vault_list` of the module of that name here, and so are all the others; one
that is run does not wait for the others to be imported, which takes longer than most of them run.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from client.cli.limits import LIMITED, limit_options
from client.cli.parameters import call_of, help_option, make_command

COMMANDS = (
    "login",
    "logout",
    "status",
    "backup",
    "snapshots",
    "tag",
    "note",
    "ls",
    "find",
    "diff",
    "stats",
    "restore",
    "dump",
    "mount",
    "copy",
    "jobs",
    "check",
    "verify",
    "repair",
    "rebuild-index",
    "retention",
    "version",
)
# Each with its help and the commands below it.
GROUPS = {
    "vault": (
        "Vaults: where backups lie.",
        ("request", "add", "login", "moved", "remove", "list", "test", "retention", "recovery", "rest", "templates"),
    ),
    "key": ("A vault's keys: what opens it.", ("list", "add", "remove", "change")),
    "password": ("The password and the recovery code.", ("change", "recovery-code", "recover")),
    "device": ("The account's devices.", ("list", "rename", "append-only", "limits", "revoke")),
}


class CommandGroup(click.Group):
    """The commands `names` whose full names begin with `before`, and groups of further ones."""

    def __init__(self, before: str, names: Sequence[str], groups: Mapping[str, click.Group], **attributes: Any) -> None:
        super().__init__(add_help_option=False, subcommand_metavar="COMMAND [ARGS]...", **attributes)
        self._before = before
        self._names = names
        self._groups = groups

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return [*self._names, *self._groups]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in self._names:
            return self._groups.get(cmd_name)
        module = f"{self._before}{cmd_name}".replace(" ", "_").replace("-", "_")
        command = make_command(cmd_name, getattr(import_module(f"client.cli.{module}"), module))
        if f"{self._before}{cmd_name}" in LIMITED:
            command.params[-1:-1] = limit_options()  # before --help
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand:
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx) from None


def make_program(name: str, text: str, begin: Callable[..., object]) -> CommandGroup:
    """The whole command line; `begin` is called before a command, and has the options that stand before it."""
    groups = {
        group: CommandGroup(f"{group} ", below, {}, name=group, help=about, params=[help_option()])
        for group, (about, below) in GROUPS.items()
    }
    return CommandGroup("", COMMANDS, groups, name=name, help=text, invoke_without_command=True, **call_of(begin))
