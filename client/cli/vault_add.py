"""backup-tool vault add"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json, read_secrets
from client.cli.parameters import Option
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
Region = Annotated[str | None, Option("--region", help="The bucket's region, where the endpoint does not tell it.")]
Key = Annotated[
    str | None,
    Option("--access-key", help="Access key, account or user name of the store; on S3 else AWS_ACCESS_KEY_ID."),
]
SecretOption = Annotated[
    bool,
    Option("--secret-stdin", help="Read the key's secret from standard input; on S3 else AWS_SECRET_ACCESS_KEY."),
]
PasswordOption = Annotated[
    bool, Option("--repository-password-stdin", help="Read the repository's password from standard input, last.")
]
_SECRET, _PASSWORD = "Secret of the store", "Repository password"


def vault_add(  # noqa: PLR0917 - options, each given by its name
    context: click.Context,
    name: Name,
    local: Local = None,
    s3: S3 = None,
    url: Url = None,
    region: Region = None,
    access_key: Key = None,
    secret_stdin: SecretOption = False,
    repository_password_stdin: PasswordOption = False,
    as_json: Json = False,
) -> None:
    """Use a place of yours as a vault: a new one is created where nothing is, an existing repository is taken in."""
    from client.account.adding import add_cloud, add_local

    if sum(place is not None for place in (local, s3, url)) != 1:
        raise UsageError(detail="Say where the vault lies: with one of --local, --s3 and --url.")
    if local is not None:
        if region or secret_stdin or access_key:
            raise UsageError(
                detail="A folder has no region and no key: leave out --region, --access-key and --secret-stdin."
            )
        _, password = _secrets("", asks=False, from_stdin=False, with_password=repository_password_stdin)
        with Invocation.of(context).device() as device:
            vault, created = add_local(device, name, local, password)
        found = {"kind": "local", "path": str(local.expanduser().absolute())}
    else:
        location = _location(s3, url, region)
        given_key, given = _from_environment(location, access_key, from_stdin=secret_stdin)
        secret, password = _secrets(given, asks=True, from_stdin=secret_stdin, with_password=repository_password_stdin)
        location = location.opened_by(access_key or given_key, secret)
        with Invocation.of(context).device() as device:
            vault, created = add_cloud(device, name, location, password)
        found = {"kind": location.scheme, "address": location.place}
    done = f"the vault {vault.name} was {'created' if created else 'taken in'}"
    with telling(done):
        if as_json:
            emit({"id": vault.id, "name": vault.name, **found, "created": created})
        else:
            say(f"T{done[1:]}.")


def _location(s3: str | None, url: str | None, region: str | None) -> "Location":
    from client.stores.cloud.location import Location

    return Location.of_s3(s3, region) if s3 is not None else Location.of_url(url or "", region)


def _from_environment(location: "Location", access_key: str | None, *, from_stdin: bool) -> tuple[str | None, str]:
    """What AWS's variables say, which is for S3 alone: whatever else an address names must not get it."""
    if location.scheme != "s3":
        return None, ""
    key = None if access_key else os.environ.get("AWS_ACCESS_KEY_ID")
    secret = "" if from_stdin else os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    if (key or secret) and os.environ.get("AWS_SESSION_TOKEN"):
        raise UsageError(
            detail="AWS_SESSION_TOKEN is set, so the key in the environment soon ends: give a lasting one, with "
            "--access-key and --secret-stdin."
        )
    return key, secret


def _secrets(given: str, *, asks: bool, from_stdin: bool, with_password: bool) -> tuple[str, str | None]:
    """The store's secret, which may be `given` or none, then the repository's password, as on standard input."""
    prompts = [_SECRET] if asks and not given else []
    if with_password:
        prompts.append(_PASSWORD)
    answers = []
    if prompts:
        option = "--secret-stdin" if prompts[0] == _SECRET else "--repository-password-stdin"
        answers = read_secrets(prompts, from_stdin=from_stdin or prompts == [_PASSWORD], option=option)
    return (
        answers.pop(0) if _SECRET in prompts else given,
        answers[0] if with_password else None,
    )
