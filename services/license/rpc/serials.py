from typing import Any

import grpc
from oort.license.v1 import leases_pb2, leases_pb2_grpc

from services.common.clock import Clock
from services.common.database import Database
from services.common.identity import OPERATOR, require_peer
from services.common.messages import timestamp_of
from services.common.paging import page_of
from services.license.serials import check_serial
from services.license.store import leases, serials

_FIRST = ("", "", "")

Context = grpc.aio.ServicerContext[Any, Any]


class SerialsRpc(leases_pb2_grpc.SerialServiceServicer):
    """oort.license.v1.SerialService, for operators alone."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def PutSerial(self, request: leases_pb2.PutSerialRequest, context: Context) -> leases_pb2.PutSerialResponse:
        require_peer(context, OPERATOR)
        check_serial(request.serial, request.description)
        async with self._db.unit() as unit:
            await serials.put(unit, request.serial, request.description, self._clock.now())
        return leases_pb2.PutSerialResponse()

    async def ListLeases(
        self, request: leases_pb2.ListLeasesRequest, context: Context
    ) -> leases_pb2.ListLeasesResponse:
        require_peer(context, OPERATOR)
        page = page_of(request, parts=len(_FIRST))
        serial, role, instance = page.after or _FIRST
        async with self._db.unit() as unit:
            found = await leases.after(unit, serial, role, instance, page.limit)
        shown, next_page_token = page.cut(found, lambda lease: (lease.serial, lease.role, lease.instance))
        return leases_pb2.ListLeasesResponse(leases=map(_message, shown), next_page_token=next_page_token)


def _message(lease: leases.HeldLease) -> leases_pb2.Lease:
    return leases_pb2.Lease(
        serial=lease.serial,
        installation=lease.installation,
        role=lease.role,
        instance=lease.instance,
        issued=timestamp_of(lease.issued),
        expires=timestamp_of(lease.expires),
    )
