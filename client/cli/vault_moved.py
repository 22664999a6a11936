"""backup-tool vault moved"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument
from client.cli.store_login import HostKeyOption, Key, KeyFile, SecretOption, StoreLogin
from client.cli.store_place import S3, Local, Region, Sftp, StorePlace, Url, described

Name = Annotated[str, Argument(help="Name of the vault.")]


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
    as_json: Json = False,
) -> None:
    """Say where a vault of yours lies now, once its files were copied there, or its disk or server is elsewhere.

    It is opened there first. All devices go there from then on; its name, its rules and its items stay.
    """
    from client.account.reopening import say_moved

    login = StoreLogin(access_key, key_file, host_key, secret_stdin=secret_stdin)
    place, _ = StorePlace(local, s3, url, sftp, region).opened_by(login)
    with Invocation.of(context).device() as device:
        vault = say_moved(device, name, place)
    found = described(place)
    with telling(f"the vault {name} lies elsewhere from now on"):
        if as_json:
            emit({"id": vault.id, "name": vault.name, **found})
        else:
            say(f"The vault {name} is at {found.get('path') or found['address']} from now on.")
