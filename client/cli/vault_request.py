"""backup-tool vault request"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option

Template = Annotated[str, Option("--template", help="See `vault templates`.")]
Name = Annotated[str, Option("--name", help="What the vault shall be called.")]


def vault_request(context: click.Context, template: Template, name: Name, as_json: Json = False) -> None:
    """Take storage for a new vault from one of the provider's templates."""
    from client.account.vaults import Vaults

    with Invocation.of(context).device() as device:
        vault = Vaults(device).request(name, template)
    with telling(f"the vault {vault.name} is ready"):
        if as_json:
            emit({"id": vault.id, "name": vault.name, "kind": "bucket", "bucket": vault.bucket_id})
        else:
            say(f"The vault {vault.name} is ready: back up with `backup-tool backup PATH --vault {vault.name}`.")
