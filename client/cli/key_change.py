"""backup-tool key change"""

from typing import TYPE_CHECKING, Annotated

import click

from client.cli.agreement import agree
from client.cli.console import emit, note, say, telling
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option

if TYPE_CHECKING:
    from client.account.vault_keys import KeyChange

Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def key_change(context: click.Context, vault: VaultName, yes: Yes = False, as_json: Json = False) -> None:
    """Put a new random key in the place of the one with which the account opens a vault; no data is touched."""
    from client.account.vault_keys import change_key

    def agreed(change: "KeyChange") -> None:
        for name in change.removed:
            note(f"plan: make a new key, then remove the key {name.id[:8]}")
            note("plan: the password that `vault recovery` says now, on paper too, will open the vault no more")
        agree("Do this?", yes=yes)

    with Invocation.of(context).device() as device:
        change = change_key(device, vault, agreed)
    with telling(f"the key of {vault} is changed"):
        if as_json:
            emit({"removed": [name.id for name in change.removed], "resumed": change.is_resumed})
            return
        if change.is_resumed:
            say(f"A change of the key of {vault} that was interrupted is ended.")
        else:
            say(f"The key of {vault} is changed; your devices learn it from the account.")
        say(f"Put the new password on paper: `backup-tool vault recovery {vault}` says it.")
