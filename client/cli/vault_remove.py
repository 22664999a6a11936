"""backup-tool vault remove"""

from typing import Annotated

import click

from client.cli.agreement import agree
from client.cli.console import emit, note, printable, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option

Name = Annotated[str, Argument(help="Name of the vault.")]
Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def vault_remove(context: click.Context, name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Take a vault out of the account, for all its devices. What is stored in it stays where it is.

    Its name is free then. `vault add` takes a vault in a place of yours in again. What this device keeps of it to be
    faster goes.
    """
    from oort.auth.v1.profiles_pb2 import VaultKind

    from client.account.caches import forget_caches
    from client.account.vaults import Vaults

    with Invocation.of(context).device() as device:
        vaults = Vaults(device)
        vault = vaults.named(name)
        note(printable(f"plan: take the vault {name} out of the account, for all its devices, with its rules"))
        if vault.kind == VaultKind.VAULT_KIND_BUCKET:
            note("plan: what is stored in it stays with your provider, who alone gets at it from then on")
        else:
            note("plan: what is stored in it stays, and can be added again, with what `vault recovery` says")
        agree("Do this?", yes=yes)
        vaults.remove(vault)
        forget_caches(device, vault.id)
    with telling(f"the vault {name} is out of the account"):
        if as_json:
            emit({"id": vault.id, "name": name, "removed": True})
        else:
            say(f"The vault {name} is out of the account; what is stored in it was not touched.")
