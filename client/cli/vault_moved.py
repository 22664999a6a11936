"""backup-tool vault moved"""

from typing import Annotated

import click

from client.cli.agreement import agree
from client.cli.console import emit, note, printable, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option
from client.cli.store_login import HostKeyOption, Key, KeyFile, SecretOption, StoreLogin
from client.cli.store_place import S3, Local, Region, Sftp, StorePlace, Url, described

Name = Annotated[str, Argument(help="Name of the vault.")]
Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def vault_moved(  # noqa: PLR0917 - options, each given by its name
    context: click.Context,
    name: Name,
    local: Local = None,
    s3: S3 = None,
    url: Url = None,
    sftp: Sftp = None,
    region: Region = None,
    access_key: Key = None,
    secret_stdin: SecretOption = False,
    key_file: KeyFile = None,
    host_key: HostKeyOption = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Say where a vault of yours lies now, once its files were copied there, or its disk or server is elsewhere.

    It is opened there first, and must be the same vault, and whole. All devices go there from then on; its name, its
    rules and its items stay.
    """
    from client.account.reopening import say_moved

    login = StoreLogin(access_key, key_file, host_key, secret_stdin=secret_stdin)
    place, _ = StorePlace(local, s3, url, sftp, region).opened_by(login)
    found = described(place)

    def agree_to(repository: str) -> None:
        note(printable(f"plan: take the repository {repository} for the vault {name}, with its rules, for all devices"))
        note("plan: nothing tells that it is the same: it was never noted, and the old place does not open any more")
        agree("Do this?", yes=yes)

    with Invocation.of(context).device() as device:
        vault = say_moved(device, name, place, agree_to)
    with telling(f"the vault {name} lies elsewhere from now on"):
        if as_json:
            emit({"id": vault.id, "name": vault.name, **found})
        else:
            say(f"The vault {name} is at {found.get('path') or found['address']} from now on.")
