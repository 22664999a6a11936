"""backup-tool vault rest"""

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, say
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option
from client.errors import UsageError

if TYPE_CHECKING:
    from client.account.device import Device

Name = Annotated[str, Argument(help="Name of the vault.")]
AppendOnly = Annotated[bool, Option("--append-only", help="A URL that reads and stores, and removes nothing.")]
Revoke = Annotated[bool, Option("--revoke", help="End every URL of the vault, of every device.")]


def vault_rest(
    context: click.Context,
    *,
    name: Name,
    append_only: AppendOnly = False,
    revoke: Revoke = False,
    as_json: Json = False,
) -> None:
    """Say the URL by which a bare restic uses a vault. It holds a password: keep it as one.

    Each device has URLs of its own: take one for each machine on which restic runs. restic asks besides for the vault's
    password, which `vault recovery` says, and needs the CA of the servers (--cacert) where that is not a public one.
    """
    from client.account.vaults import Vaults

    if revoke and append_only:
        raise UsageError(detail="--revoke ends all URLs: give it without --append-only")
    with Invocation.of(context).device() as device:
        vault = Vaults(device).named(name)
        if revoke:
            revoked = _revoke(device, vault.id)
            if as_json:
                emit({"vault": name, "revoked": revoked})
            else:
                say(f"{revoked} revoked: none opens {name} any more, within a minute.")
            return
        urls = _urls(device, vault.id, vault.bucket_id, append_only=append_only)
        ca = str(device.home.ca_file) if device.home.ca_file.is_file() else None
    if as_json:
        emit({"vault": name, "url": urls[0], "urls": urls, "append_only": append_only, "ca": ca})
    else:
        # Not as an argument of restic, which everybody on the machine could read.
        say(f"export RESTIC_REPOSITORY='{urls[0]}'")
        for other in urls[1:]:
            say(f"or '{other}'")
        say(f"restic --cacert {quote(ca)} snapshots" if ca else "restic snapshots")


def _urls(device: "Device", vault: str, bucket: str, *, append_only: bool) -> list[str]:
    """One for each storage node, those that live first."""
    from oort.auth.v1.profiles_pb2 import IssueRestAccessRequest

    request = IssueRestAccessRequest(vault_id=vault, append_only=append_only)
    issued = device.connection.call(device.profiles.IssueRestAccess, request)
    return [f"rest:https://{issued.username}:{issued.password}@{node}/{bucket}/" for node in issued.endpoints]


def _revoke(device: "Device", vault: str) -> int:
    from oort.auth.v1.profiles_pb2 import RevokeRestAccessRequest

    request = RevokeRestAccessRequest(vault_id=vault)
    return int(device.connection.call(device.profiles.RevokeRestAccess, request).revoked)
