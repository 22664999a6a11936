"""backup-tool vault add"""

from pathlib import Path
from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option
from client.cli.store_login import HostKeyOption, Key, KeyFile, SecretOption, StoreLogin
from client.cli.store_place import S3, Local, Region, Sftp, StorePlace, Url, described
from client.cli.vault_request import Name

PasswordOption = Annotated[
    bool, Option("--repository-password-stdin", help="Read the repository's password from standard input, last.")
]


def vault_add(  # noqa: PLR0917 - options, each given by its name
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
    repository_password_stdin: PasswordOption = False,
    as_json: Json = False,
) -> None:
    """Use a place of yours as a vault: a new one is created where nothing is, an existing repository is taken in."""
    from client.account.adding import add_cloud, add_local

    login = StoreLogin(access_key, key_file, host_key, secret_stdin=secret_stdin)
    place, password = StorePlace(local, s3, url, sftp, region).opened_by(login, with_password=repository_password_stdin)
    with Invocation.of(context).device() as device:
        if isinstance(place, Path):
            vault, created = add_local(device, name, place, password)
            tested_with = ""
        else:
            vault, created = add_cloud(device, name, place, password)
            tested_with = place.tested_with
    done = f"the vault {vault.name} was {'created' if created else 'taken in'}"
    with telling(done):
        if as_json:
            emit({"id": vault.id, "name": vault.name, **described(place), "created": created})
        else:
            say(f"T{done[1:]}.")
            if tested_with:
                say(f"Oort is tested with {tested_with}: try it out with `backup-tool vault test {vault.name}`.")
