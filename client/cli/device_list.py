"""backup-tool device list"""

import click

from client.cli.console import emit_array, table
from client.cli.invocation import Invocation, Json


def device_list(context: click.Context, as_json: Json = False) -> None:
    """List the account's devices."""
    from oort.auth.v1.devices_pb2 import ListDevicesRequest, RegisteredDevice
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    devices: list[RegisteredDevice] = []
    with Invocation.of(context).device() as device:
        stub = DeviceServiceStub(device.connection.channel)
        token = ""
        while True:
            request = ListDevicesRequest(page_size=500, page_token=token)
            page = device.connection.call(stub.ListDevices, request)
            devices.extend(page.devices)
            token = page.next_page_token
            if not token:
                break
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
