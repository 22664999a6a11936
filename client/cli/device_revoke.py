"""backup-tool device revoke"""

from typing import Annotated

import click

from client.cli.agreement import agree
from client.cli.console import emit, note, printable, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option

DeviceName = Annotated[str, Argument(help="Its name or id.", metavar="DEVICE")]
Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def device_revoke(context: click.Context, device_name: DeviceName, yes: Yes = False, as_json: Json = False) -> None:
    """End a device for good, as when it is stolen: it signs in no more. Its items go, its snapshots stay.

    What it was allowed before ends within a quarter of an hour. This device itself is removed by
    `logout --remove-device`.
    """
    from oort.auth.v1.devices_pb2 import RevokeDeviceRequest
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    from client.account.devices import find_device
    from client.errors import UsageError

    with Invocation.of(context).device() as device:
        stub = DeviceServiceStub(device.connection.channel)
        found = find_device(device, device_name)
        if found.current:
            raise UsageError(detail="this is the device itself: `backup-tool logout --remove-device` removes it")
        note(printable(f"plan: revoke the device {found.name} ({found.id}), and remove its items; its snapshots stay"))
        agree("Do this?", yes=yes)
        device.connection.call(stub.RevokeDevice, RevokeDeviceRequest(id=found.id))
    with telling(f"the device {found.name} is revoked"):
        if as_json:
            emit({"id": found.id, "name": found.name, "revoked": True})
        else:
            say(f"The device {found.name} is revoked.")
