"""backup-tool password change"""

import click

from client.cli.console import say, telling
from client.cli.invocation import Invocation, PasswordStdin, read_secrets


def password_change(context: click.Context, password_stdin: PasswordStdin = False) -> None:
    """Change the password. All devices stay logged in."""
    from client.account import login as logins

    present, new = read_secrets(
        ["Present password", "New password"],
        from_stdin=password_stdin,
        option="--password-stdin",
        confirm="New password",
    )
    logins.change_password(Invocation.of(context).home, present, new)
    with telling("the password is changed"):
        say("The password is changed. Your devices stay logged in.")
