"""backup-tool vault add"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json, read_secrets
from client.cli.parameters import Option
from client.cli.store_login import PASSWORD_PROMPT, HostKeyOption, Key, KeyFile, SecretOption, StoreLogin
from client.cli.vault_request import Name
from client.errors import UsageError

if TYPE_CHECKING:
    from client.stores.cloud.location import Location

Local = Annotated[Path | None, Option("--local", help="Folder of the vault: empty, missing, or a repository.")]
S3 = Annotated[
    str | None, Option("--s3", metavar="ENDPOINT/BUCKET/PREFIX", help="Folder of a bucket on an S3 store, as --local.")
]
Url = Annotated[
    str | None,
    Option("--url", metavar="SCHEME://...", help="The same on WebDAV (webdav://HOST/PATH), azblob, gcs, b2 or swift."),
]
Sftp = Annotated[str | None, Option("--sftp", metavar="USER@HOST[:PORT]/FOLDER", help="The same on a server of SFTP.")]
Region = Annotated[str | None, Option("--region", help="The bucket's region, where the endpoint does not tell it.")]
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

    if sum(place is not None for place in (local, s3, url, sftp)) != 1:
        raise UsageError(detail="Say where the vault lies: with one of --local, --s3, --url and --sftp.")
    login = StoreLogin(access_key, key_file, host_key, secret_stdin=secret_stdin)
    if local is not None:
        if region or login != StoreLogin():
            raise UsageError(
                detail="A folder has no region and no key: leave out --region, --access-key, --secret-stdin and others."
            )
        password = read_secrets([PASSWORD_PROMPT], from_stdin=True)[0] if repository_password_stdin else None
        with Invocation.of(context).device() as device:
            vault, created = add_local(device, name, local, password)
        found = {"kind": "local", "path": str(local.expanduser().absolute())}
        tested_with = ""
    else:
        location, password = login.open(_location(s3, url, sftp, region), with_password=repository_password_stdin)
        with Invocation.of(context).device() as device:
            vault, created = add_cloud(device, name, location, password)
        found = {"kind": location.scheme, "address": location.place}
        tested_with = location.tested_with
    done = f"the vault {vault.name} was {'created' if created else 'taken in'}"
    with telling(done):
        if as_json:
            emit({"id": vault.id, "name": vault.name, **found, "created": created})
        else:
            say(f"T{done[1:]}.")
            if tested_with:
                say(f"Oort is tested with {tested_with}: try it out with `backup-tool vault test {vault.name}`.")


def _location(s3: str | None, url: str | None, sftp: str | None, region: str | None) -> "Location":
    from client.stores.cloud.location import Location
    from client.stores.cloud.sftp.location import SftpLocation

    if sftp is not None:
        if region is not None:
            raise UsageError(detail="A server of SFTP has no --region: leave it out.")
        return SftpLocation.of_address(sftp)
    return Location.of_s3(s3, region) if s3 is not None else Location.of_url(url or "", region)
