from oort.auth.v1 import devices_pb2, devices_pb2_grpc

from services.auth.devices import Devices
from services.auth.gate import Caller, Context, Gate
from services.auth.names import printable
from services.auth.store.devices import Device
from services.common.messages import timestamp_of, uuid_of
from services.common.paging import page_of


class DevicesRpc(devices_pb2_grpc.DeviceServiceServicer):
    def __init__(self, gate: Gate, devices: Devices) -> None:
        self._gate = gate
        self._devices = devices

    async def ListDevices(
        self, request: devices_pb2.ListDevicesRequest, context: Context
    ) -> devices_pb2.ListDevicesResponse:
        caller = await self._gate.caller(context)
        rows, token = await self._devices.page(caller, page_of(request))
        return devices_pb2.ListDevicesResponse(
            devices=[_to_message(row, caller) for row in rows], next_page_token=token
        )

    async def RenameDevice(
        self, request: devices_pb2.RenameDeviceRequest, context: Context
    ) -> devices_pb2.RenameDeviceResponse:
        caller = await self._gate.caller(context)
        await self._devices.rename(caller, uuid_of(request.id, "id"), printable(request.name, "A device's name"))
        return devices_pb2.RenameDeviceResponse()

    async def RevokeDevice(
        self, request: devices_pb2.RevokeDeviceRequest, context: Context
    ) -> devices_pb2.RevokeDeviceResponse:
        caller = await self._gate.caller(context)
        await self._devices.revoke(caller, uuid_of(request.id, "id"))
        return devices_pb2.RevokeDeviceResponse()

    async def SetAppendOnly(
        self, request: devices_pb2.SetAppendOnlyRequest, context: Context
    ) -> devices_pb2.SetAppendOnlyResponse:
        caller = await self._gate.caller(context)
        await self._devices.set_append_only(caller, uuid_of(request.id, "id"), append_only=request.append_only)
        return devices_pb2.SetAppendOnlyResponse()


def _to_message(device: Device, caller: Caller) -> devices_pb2.RegisteredDevice:
    return devices_pb2.RegisteredDevice(
        id=str(device.id),
        name=device.name,
        platform=device.platform,
        client_version=device.client_version,
        registered=timestamp_of(device.registered),
        last_seen=timestamp_of(device.last_seen),
        current=device.id == caller.device,
        append_only=device.append_only,
    )
