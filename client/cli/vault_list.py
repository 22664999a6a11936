"""backup-tool vault list"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from client.cli.console import emit_array, note, say, size_text, table
from client.cli.invocation import Invocation, Json
from client.errors import BrokenSeal

if TYPE_CHECKING:
    from oort.auth.v1.profiles_pb2 import Vault

    from client.account.vaults import Vaults


def vault_list(context: click.Context, as_json: Json = False) -> None:
    """List the account's vaults; all its devices share them."""
    from client.account.vaults import Vaults

    with Invocation.of(context).device() as device:
        vaults = Vaults(device)
        listed = [_describe(vaults, vault) for vault in vaults.all()]
    if vaults.unreachable is not None:
        note(f"backup-tool: this is the list as last seen: {vaults.unreachable}")
    if as_json:
        emit_array(listed)
    elif not listed:
        say("There is no vault yet: `backup-tool vault request` or `backup-tool vault add` makes one.")
    else:
        table(
            ("NAME", "KIND", "PLACE", "QUOTA"),
            (
                (
                    vault["name"],
                    vault["kind"],
                    vault["bucket"] or vault["path"] or vault["address"] or "(cannot be opened)",
                    size_text(vault["quota_bytes"]) if vault["quota_bytes"] else "-",
                )
                for vault in listed
            ),
        )


def _describe(vaults: "Vaults", vault: "Vault") -> dict[str, Any]:
    from oort.auth.v1.profiles_pb2 import VaultKind

    is_bucket = vault.kind == VaultKind.VAULT_KIND_BUCKET
    kind, path, address = "bucket" if is_bucket else "local", None, None
    if not is_bucket:
        try:
            where = vaults.place(vault)
        except BrokenSeal:
            where = None
        if isinstance(where, Path):
            path = str(where)
        elif where is not None:
            kind, address = where.scheme, where.place
    return {
        "id": vault.id,
        "name": vault.name,
        "kind": kind,
        "bucket": vault.bucket_id or None,
        "cluster": vault.cluster or None,
        "path": path,
        "address": address,
        "quota_bytes": vault.quota_bytes,
        "created": vault.created.ToJsonString(),
    }
