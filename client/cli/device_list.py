"""backup-tool device list"""

import click

from client.cli.console import emit_array, table
from client.cli.invocation import Invocation, Json


def device_list(context: click.Context, as_json: Json = False) -> None:
    """List the account's devices."""
    from client.account.devices import list_devices

    with Invocation.of(context).device() as device:
        devices = list_devices(device)
    if as_json:
        emit_array(
            {
                "id": found.id,
                "name": found.name,
                "platform": found.platform,
                "client_version": found.client_version,
                "registered": found.registered.ToJsonString(),
                "last_seen": found.last_seen.ToJsonString(),
                "current": found.current,
                "append_only": found.append_only,
            }
            for found in devices
        )
    else:
        table(
            ("", "ID", "NAME", "PLATFORM", "LAST SEEN", "MAY"),
            (
                (
                    "*" if found.current else "",
                    found.id,
                    found.name,
                    found.platform,
                    found.last_seen.ToJsonString(),
                    "only add" if found.append_only else "do everything",
                )
                for found in devices
            ),
        )
