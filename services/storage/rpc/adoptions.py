"""AdoptionService: files that were copied by hand into this node's folders. Internal listener."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from oort.storage.v1 import adoptions_pb2, adoptions_pb2_grpc

from domain.names import ObjectKind
from domain.sessions import Scope
from services.common.errors import InvalidArgument
from services.common.listeners import Served
from services.common.messages import uuid_of
from services.storage.access.gate import OperatorGate
from services.storage.adoption.run import KINDS, Adoption, Tally

_NAME = adoptions_pb2.DESCRIPTOR.services_by_name["AdoptionService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class AdoptionsRpc(adoptions_pb2_grpc.AdoptionServiceServicer):
    def __init__(self, gate: OperatorGate, adoption: Adoption) -> None:
        self._gate = gate
        self._adoption = adoption

    def served(self) -> Served:
        return Served(adoptions_pb2_grpc.add_AdoptionServiceServicer_to_server, self, _NAME)

    async def ReadRoots(
        self, request: adoptions_pb2.ReadRootsRequest, context: Context
    ) -> AsyncIterator[adoptions_pb2.ReadRootsResponse]:
        claims = self._gate.require(context, Scope.APPEND)
        async with aclosing(self._adoption.roots(claims, uuid_of(request.session_id, "session_id"))) as roots:
            async for root in roots:
                yield adoptions_pb2.ReadRootsResponse(name=root.name, body=root.body, refused=root.refused)

    async def Adopt(
        self, request: adoptions_pb2.AdoptRequest, context: Context
    ) -> AsyncIterator[adoptions_pb2.AdoptResponse]:
        claims = self._gate.require(context, Scope.APPEND)
        session = uuid_of(request.session_id, "session_id")
        if request.kind not in KINDS:
            raise InvalidArgument(detail=f"kind is one of {', '.join(KINDS)}.")
        tally = Tally()
        async with aclosing(self._adoption.run(claims, session, ObjectKind(request.kind), request.withheld)) as steps:
            async for tally in steps:
                yield _response(tally)
        yield _response(tally, done=True)

    async def Finish(
        self, request: adoptions_pb2.FinishAdoptionRequest, context: Context
    ) -> adoptions_pb2.FinishAdoptionResponse:
        claims = self._gate.require(context, Scope.APPEND)
        finished = await self._adoption.finish(claims, uuid_of(request.session_id, "session_id"))
        return adoptions_pb2.FinishAdoptionResponse(finished=finished)


def _response(tally: Tally, *, done: bool = False) -> adoptions_pb2.AdoptResponse:
    left = [
        adoptions_pb2.LeftOut(name=one.name, reason=one.reason, passing=one.passing) for one in tally.take_left_out()
    ]
    return adoptions_pb2.AdoptResponse(
        done=done,
        objects=tally.objects,
        bytes=tally.bytes,
        known=tally.known,
        in_basket=tally.in_basket,
        revived=tally.revived,
        left_out=left,
    )
