"""backup-tool login"""

from pathlib import Path
from typing import Annotated

import click

from client.cli.console import say, telling
from client.cli.invocation import Invocation, PasswordStdin, read_secrets
from client.cli.parameters import Option

Server = Annotated[str, Option("--server", help="HOST:PORT of the server.")]
CaFile = Annotated[Path, Option("--ca", help="File with the CA that signed the server's certificate.")]
Username = Annotated[str, Option("--username")]
AppendOnly = Annotated[bool, Option("--append-only", help="From now on this device may only add, and remove nothing.")]
Tenant = Annotated[str, Option("--tenant", help="Your provider's tenant; empty for the first one.")]


def login(
    context: click.Context,
    *,
    server: Server,
    ca: CaFile,
    username: Username,
    tenant: Tenant = "",
    append_only: AppendOnly = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Log this device in. One home is one device."""
    from client.account import login as logins

    (password,) = read_secrets(["Password"], from_stdin=password_stdin, option="--password-stdin")
    home, place = Invocation.of(context).home, logins.Server(server, ca, tenant)
    account = logins.login(home, place, username, password, append_only=append_only)
    with telling("this device is logged in"):
        say(f"Logged in to {account.server} as {account.username}; this device is {account.device_id}.")
