"""backup-tool vault request"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json, read_secrets
from client.cli.parameters import Option

Template = Annotated[str, Option("--template", help="See `vault templates`.")]
Name = Annotated[str, Option("--name", help="What the vault shall be called.")]
PasswordOption = Annotated[
    bool,
    Option(
        "--repository-password-stdin",
        help="Read the password of a repository that the provider will import, from standard input.",
    ),
]


def repository_password(*, from_stdin: bool) -> str | None:
    """None where none is given."""
    if not from_stdin:
        return None
    (password,) = read_secrets(["Repository password"], from_stdin=True, option="--repository-password-stdin")
    return password


def vault_request(
    context: click.Context,
    template: Template,
    name: Name,
    repository_password_stdin: PasswordOption = False,
    as_json: Json = False,
) -> None:
    """Take storage for a new vault from one of the provider's templates."""
    from client.account.vaults import Vaults

    password = repository_password(from_stdin=repository_password_stdin)
    with Invocation.of(context).device() as device:
        vault = Vaults(device).request(name, template, password)
    with telling(f"the vault {vault.name} is ready"):
        if as_json:
            emit({"id": vault.id, "name": vault.name, "kind": "bucket", "bucket": vault.bucket_id})
        elif password is not None:
            say(f"The vault {vault.name} is ready for its repository: tell your provider its id, {vault.id}.")
        else:
            say(f"The vault {vault.name} is ready: back up with `backup-tool backup PATH --vault {vault.name}`.")
