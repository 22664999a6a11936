"""backup-tool device rename"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument

DeviceName = Annotated[str, Argument(help="Its name or id.", metavar="DEVICE")]
NewName = Annotated[str, Argument(help="The name that it gets.", metavar="NAME")]


def device_rename(context: click.Context, device_name: DeviceName, name: NewName, as_json: Json = False) -> None:
    """Give a device of the account another name. Its snapshots keep the host name that they have."""
    from oort.auth.v1.devices_pb2 import RenameDeviceRequest
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    from client.account.devices import find_device

    with Invocation.of(context).device() as device:
        stub = DeviceServiceStub(device.connection.channel)
        found = find_device(device, device_name)
        device.connection.call(stub.RenameDevice, RenameDeviceRequest(id=found.id, name=name))
    with telling(f"the device {found.name} is named {name}"):
        if as_json:
            emit({"id": found.id, "name": name})
        else:
            say(f"The device {found.name} is named {name}.")
