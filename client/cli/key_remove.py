"""backup-tool key remove"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Argument

KeyName = Annotated[str, Argument(help="The id of a key, or the beginning of one.", metavar="ID")]


def key_remove(context: click.Context, key: KeyName, vault: VaultName, as_json: Json = False) -> None:
    """Remove a key file: its password opens the vault no more. That of the account itself stays."""
    from client.account.vault_keys import remove_key

    with Invocation.of(context).device() as device:
        name = remove_key(device, vault, key)
    with telling(f"the key {name.id} was removed"):
        if as_json:
            emit({"id": name.id})
        else:
            say(f"The key {name.id[:8]} was removed: its password opens the vault {vault} no more.")
