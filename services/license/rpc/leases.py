from typing import Any

import grpc
from oort.license.v1 import leases_pb2, leases_pb2_grpc

from services.common.clock import Clock
from services.common.lease_request import Purpose
from services.license.leases import Leasing
from services.license.requests import verify

Context = grpc.aio.ServicerContext[Any, Any]


class LeasesRpc(leases_pb2_grpc.LeaseServiceServicer):
    """oort.license.v1.LeaseService. The signed request is all that authorises."""

    def __init__(self, leasing: Leasing, clock: Clock) -> None:
        self._leasing = leasing
        self._clock = clock

    async def Acquire(self, request: leases_pb2.AcquireRequest, context: Context) -> leases_pb2.AcquireResponse:
        del context
        asked = verify(request, Purpose.ACQUIRE, self._clock.now())
        return leases_pb2.AcquireResponse(lease=await self._leasing.acquire(asked))

    async def Release(self, request: leases_pb2.ReleaseRequest, context: Context) -> leases_pb2.ReleaseResponse:
        del context
        await self._leasing.release(verify(request, Purpose.RELEASE, self._clock.now()))
        return leases_pb2.ReleaseResponse()
