"""backup-tool vault add"""

from pathlib import Path
from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option
from client.cli.vault_request import Name, repository_password

Local = Annotated[Path, Option("--local", help="Folder of the vault: empty, missing, or a repository.")]
PasswordOption = Annotated[
    bool, Option("--repository-password-stdin", help="Read the repository's password from standard input.")
]


def vault_add(
    context: click.Context,
    local: Local,
    name: Name,
    repository_password_stdin: PasswordOption = False,
    as_json: Json = False,
) -> None:
    """Use a folder as a vault: a new one is created where nothing is, an existing repository is taken in."""
    from client.account.opening import add_local

    password = repository_password(from_stdin=repository_password_stdin)
    with Invocation.of(context).device() as device:
        vault, created = add_local(device, name, local, password)
    done = f"the vault {vault.name} was {'created' if created else 'taken in'}"
    with telling(done):
        if as_json:
            path = str(local.expanduser().absolute())
            emit({"id": vault.id, "name": vault.name, "kind": "local", "path": path, "created": created})
        else:
            say(f"T{done[1:]}.")
