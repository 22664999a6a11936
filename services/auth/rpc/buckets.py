"""BucketAdminService: unpack, pass the gate, call, pack. Requests and answers are those of the storage role."""

from oort.auth.v1 import buckets_pb2, buckets_pb2_grpc
from oort.storage.v1 import protection_pb2

from services.auth.buckets import Buckets
from services.auth.gate import Context, Gate, Need


class BucketsRpc(buckets_pb2_grpc.BucketAdminServiceServicer):
    def __init__(self, gate: Gate, buckets: Buckets) -> None:
        self._gate = gate
        self._buckets = buckets

    async def ListBasket(
        self, request: protection_pb2.ListBasketRequest, context: Context
    ) -> buckets_pb2.ListBasketResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        page = await self._buckets.basket(caller, request)
        return buckets_pb2.ListBasketResponse(told=page.told, vault_name=page.vault, device_names=page.devices)

    async def PlanRestore(
        self, request: protection_pb2.PlanRestoreRequest, context: Context
    ) -> protection_pb2.PlanRestoreResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        answer: protection_pb2.PlanRestoreResponse = await self._buckets.ask(caller, request, "PlanRestore")
        return answer

    async def Restore(self, request: protection_pb2.RestoreRequest, context: Context) -> protection_pb2.RestoreResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        answer: protection_pb2.RestoreResponse = await self._buckets.ask(caller, request, "Restore")
        return answer

    async def SetLock(self, request: protection_pb2.SetLockRequest, context: Context) -> protection_pb2.SetLockResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        ask = self._buckets.lower if request.shorten else self._buckets.ask
        answer: protection_pb2.SetLockResponse = await ask(caller, request, "SetLock")
        return answer

    async def Release(self, request: protection_pb2.ReleaseRequest, context: Context) -> protection_pb2.ReleaseResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        answer: protection_pb2.ReleaseResponse = await self._buckets.lower(caller, request, "Release")
        return answer
