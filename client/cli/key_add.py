"""backup-tool key add"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json, VaultName, read_secrets
from client.cli.parameters import Option

NewPasswordStdin = Annotated[bool, Option("--new-password-stdin", help="Read it from standard input, without asking.")]


def key_add(
    context: click.Context, vault: VaultName, new_password_stdin: NewPasswordStdin = False, as_json: Json = False
) -> None:
    """Have a password open a vault too, with restic and without this account."""
    from client.account.vault_keys import add_key

    (password,) = read_secrets(
        ["New password"], from_stdin=new_password_stdin, option="--new-password-stdin", confirm="New password"
    )
    with Invocation.of(context).device() as device:
        name = add_key(device, vault, password)
    with telling(f"the key {name.id} was added"):
        if as_json:
            emit({"id": name.id})
        else:
            say(f"The key {name.id[:8]} opens the vault {vault} with the new password.")
