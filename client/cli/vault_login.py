"""backup-tool vault login"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument
from client.cli.store_login import HostKeyOption, Key, KeyFile, SecretOption, StoreLogin

Name = Annotated[str, Argument(help="Name of the vault.")]


def vault_login(  # noqa: PLR0917 - options, each given by its name
    context: click.Context,
    name: Name,
    access_key: Key = None,
    secret_stdin: SecretOption = False,
    key_file: KeyFile = None,
    host_key: HostKeyOption = None,
    as_json: Json = False,
) -> None:
    """Say anew what opens the store of a vault, or which host key an SFTP server has; it is tried out first."""
    from client.account.reopening import reopen

    login = StoreLogin(access_key, key_file, host_key, secret_stdin=secret_stdin)
    with Invocation.of(context).device() as device:
        vault, location = reopen(device, name, login.renew)
    with telling(f"the vault {name} is opened so from now on"):
        if as_json:
            emit({"id": vault.id, "name": vault.name, "kind": location.scheme, "address": location.place})
        else:
            say(f"The vault {name} is opened so from now on; your devices learn it from the account.")
