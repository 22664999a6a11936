"""backup-tool device append-only"""

from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option

DeviceName = Annotated[str, Argument(help="Its name or id; default: this device.", metavar="[DEVICE]")]
Off = Annotated[bool, Option("--off", help="Let it do everything again.")]


def device_append_only(
    context: click.Context, device_name: DeviceName = "", *, off: Off = False, as_json: Json = False
) -> None:
    """Have a device only add to the account's vaults, so that who steals it removes nothing.

    It backs up, restores and looks as before. What removes, or changes what is kept, is refused; what it was allowed
    before ends within a quarter of an hour. It cannot take this back itself: with --off another device does.
    """
    from oort.auth.v1.devices_pb2 import SetAppendOnlyRequest
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    from client.account.devices import find_device

    with Invocation.of(context).device() as device:
        stub = DeviceServiceStub(device.connection.channel)
        found = find_device(device, device_name)
        device.connection.call(stub.SetAppendOnly, SetAppendOnlyRequest(id=found.id, append_only=not off))
    done = f"the device {found.name} may do everything again" if off else f"the device {found.name} may only add now"
    with telling(done):
        if as_json:
            emit({"id": found.id, "name": found.name, "append_only": not off})
        else:
            say(f"T{done[1:]}.")
