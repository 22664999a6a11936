from oort.auth.v1 import rest_pb2, rest_pb2_grpc

from services.auth.gate import Context, Gate
from services.auth.rest_access import RestAccess
from services.common.messages import timestamp_of


class RestAccessRpc(rest_pb2_grpc.RestAccessServiceServicer):
    def __init__(self, gate: Gate, access: RestAccess) -> None:
        self._gate = gate
        self._access = access

    async def Exchange(self, request: rest_pb2.ExchangeRequest, context: Context) -> rest_pb2.ExchangeResponse:
        await self._gate.node(context)
        token, expires = await self._access.exchange(request.username, request.password)
        return rest_pb2.ExchangeResponse(token=token, expires=timestamp_of(expires))
