"""The account's devices, found by what a person calls them."""

from collections.abc import Sequence

from oort.auth.v1.devices_pb2 import ListDevicesRequest, RegisteredDevice
from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

from client.account.device import Device
from client.errors import NotFound, UsageError


def list_devices(device: Device) -> Sequence[RegisteredDevice]:
    """Those in force, by id. Raises OortError."""
    stub = DeviceServiceStub(device.connection.channel)
    pages = device.connection.pages(stub.ListDevices, ListDevicesRequest())
    return [found for page in pages for found in page.devices]


def find_device(device: Device, wanted: str) -> RegisteredDevice:
    """The device of that name or id; without one, `device` itself.

    Raises NotFound, UsageError for a name that several have.
    """
    found = [one for one in list_devices(device) if (wanted in (one.id, one.name) if wanted else one.current)]
    if not found:
        raise NotFound(detail=f"No device is '{wanted}': `backup-tool device list` lists those there are.")
    if len(found) > 1:
        raise UsageError(detail=f"{len(found)} devices are named '{wanted}': give the id, as `device list` says it.")
    return found[0]
