"""backup-tool key list"""

from typing import TYPE_CHECKING, Any

import click

from client.cli.console import emit_array, note, printable, say, table
from client.cli.invocation import Invocation, Json, VaultName
from client.errors import DamagedVault

if TYPE_CHECKING:
    from client.account.vault_keys import VaultKey


def key_list(context: click.Context, vault: VaultName, as_json: Json = False) -> int:
    """List the key files of a vault: each opens it with a password of its own. Exit code 8: one is damaged."""
    from client.account.vault_keys import list_keys

    with Invocation.of(context).device() as device:
        keys = list_keys(device, vault)
    if as_json:
        emit_array(map(describe_key, keys))
    elif not keys:
        say(f"Nothing was stored in the vault {vault} yet, so it has no key.")
    else:
        table(("ID", "CREATED", "MADE BY", "OPENED BY"), map(_row, keys))
    for key in keys:
        if key.damage and not as_json:
            note(printable(f"backup-tool: {key.damage}"))
    return DamagedVault.exit_code if any(key.damage for key in keys) else 0


def _row(key: "VaultKey") -> tuple[str, str, str, str]:
    file = key.file
    if file is None:
        return key.name.id[:8], "-", "-", "(damaged)"
    maker = "@".join(filter(None, (file.username, file.hostname)))
    return key.name.id[:8], file.created[:19] or "-", maker or "-", "this account" if key.is_own else "a password"


def describe_key(key: "VaultKey") -> dict[str, Any]:
    file = key.file
    return {
        "id": key.name.id,
        "created": file.created if file else None,
        "hostname": file.hostname if file else None,
        "username": file.username if file else None,
        "is_own": key.is_own,
        "damage": key.damage or None,
    }
