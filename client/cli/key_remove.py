"""backup-tool key remove"""

from typing import TYPE_CHECKING, Annotated

import click

from client.cli.agreement import agree
from client.cli.console import emit, note, printable, say, telling
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Argument, Option

if TYPE_CHECKING:
    from client.account.vault_keys import VaultKey

KeyName = Annotated[str, Argument(help="The id of a key, or the beginning of one.", metavar="ID")]
Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def key_remove(context: click.Context, key: KeyName, vault: VaultName, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a key file: its password opens the vault no more. That of the account itself stays."""
    from client.account.vault_keys import remove_key

    def agreed(found: "VaultKey") -> None:
        note(printable(f"plan: remove the key {_described(found)}"))
        agree("Do this?", yes=yes)

    with Invocation.of(context).device() as device:
        name = remove_key(device, vault, key, agreed)
    with telling(f"the key {name.id} was removed"):
        if as_json:
            emit({"id": name.id})
        else:
            say(f"The key {name.id[:8]} was removed: its password opens the vault {vault} no more.")


def _described(key: "VaultKey") -> str:
    if key.file is None:
        return f"{key.name.id[:8]}, which cannot be read: {key.damage}"
    made = f"made by {key.file.username or '-'} on {key.file.hostname or '-'}"
    return f"{key.name.id[:8]}, {made}: its password will open the vault no more"
