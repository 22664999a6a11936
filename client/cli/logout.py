"""backup-tool logout"""

from typing import Annotated

import click

from client.cli.console import note, say, telling
from client.cli.invocation import Invocation
from client.cli.parameters import Option

RemoveDevice = Annotated[
    bool, Option("--remove-device", help="Also remove the device from the account; its snapshots stay.")
]


def logout(context: click.Context, remove_device: RemoveDevice = False) -> None:
    """Log this device out and forget the account's key."""
    from client.account import login as logins

    untold = logins.logout(Invocation.of(context).home, remove_device=remove_device)
    if untold is not None:
        note(f"backup-tool: the server could not be told: {untold}")
    with telling("this device is logged out"):
        say("Logged out.")
