"""backup-tool vault recovery"""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, note, say
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument
from client.errors import OortError, StoreError

if TYPE_CHECKING:
    from client.stores.cloud.location import Location

Name = Annotated[str, Argument(help="Name of the vault.")]


def vault_recovery(context: click.Context, name: Name, as_json: Json = False) -> None:
    """Say where a vault lies, and the password with which restic opens it. Keep both on paper."""
    from oort.auth.v1.profiles_pb2 import IssueVaultTokenRequest, VaultKind

    from client.account.vaults import Vaults

    with Invocation.of(context).device() as device:
        vaults = Vaults(device)
        vault = vaults.named(name)
        password = vaults.repository_password(vault)
        if password is None:
            raise StoreError(place=f"The vault {name}", detail="nothing was stored in it yet, so there is no password")
        found: dict[str, object]
        if vault.kind == VaultKind.VAULT_KIND_BUCKET:
            endpoints: list[str] = []
            try:
                request = IssueVaultTokenRequest(vault_id=vault.id, scopes=["read"])
                endpoints.extend(device.connection.call(device.profiles.IssueVaultToken, request).endpoints)
            except OortError as error:
                note(f"backup-tool: the storage nodes are not known at the moment: {error}")
            found = {"kind": "bucket", "bucket": vault.bucket_id, "cluster": vault.cluster, "endpoints": endpoints}
        else:
            where = vaults.place(vault)
            if isinstance(where, Path):
                found = {"kind": "local", "path": str(where), "endpoints": []}
            else:
                from client.stores.cloud.restic import restic_access

                access = restic_access(where)
                login = _login(where)
                found = {
                    "kind": where.scheme,
                    "address": where.place,
                    "key_id": where.key,
                    "endpoints": [],
                    "repository": access.repository,
                    "environment": dict(access.environment),
                }
    if as_json:
        emit({"id": vault.id, "name": name, **found, "password": password})
    elif found["kind"] == "bucket":
        say(f"Bucket    {vault.bucket_id} (cluster {vault.cluster})")
        say(f"Nodes     {', '.join(endpoints) or 'not known'}")
        say(f"Password  {password}")
        say("On a node's disk: restic --repo .../buckets/" + vault.bucket_id + " snapshots")
    elif found["kind"] != "local":
        say(f"Address   {found['address']}")
        if login:
            say(login)
        say(f"Password  {password}")
        for line in access.lines:
            say(line)
    else:
        say(f"Folder    {found['path']}")
        say(f"Password  {password}")
        say(f"restic --repo {quote(str(found['path']))} snapshots")


def _login(where: "Location") -> str:
    """What opens the store beside its secret, as that kind of store calls the two; else empty."""
    if not where.key:
        return ""
    label = {"user": "User", "account": "Account"}.get(where.key_name, "Key")
    return f"{label:9} {where.key} (the {where.secret_name} is yours to keep)"
