"""backup-tool device list"""

import click

from client.cli.console import emit_array, table
from client.cli.invocation import Invocation, Json


def device_list(context: click.Context, as_json: Json = False) -> None:
    """List the account's devices."""
    from oort.auth.v1.devices_pb2 import ListDevicesRequest
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    with Invocation.of(context).device() as device:
        stub = DeviceServiceStub(device.connection.channel)
        pages = device.connection.pages(stub.ListDevices, ListDevicesRequest())
        devices = [found for page in pages for found in page.devices]
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
            }
            for found in devices
        )
    else:
        table(
            ("", "ID", "NAME", "PLATFORM", "LAST SEEN"),
            (
                ("*" if found.current else "", found.id, found.name, found.platform, found.last_seen.ToJsonString())
                for found in devices
            ),
        )
