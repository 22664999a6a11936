"""RescanService: the catalogue made again from this node's disks. Internal listener."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from oort.storage.v1 import rescans_pb2, rescans_pb2_grpc

from services.common.identity import OPERATOR, require_peer
from services.storage.upkeep.rescan import Rescan, Tally

Context = grpc.aio.ServicerContext[Any, Any]


class RescansRpc(rescans_pb2_grpc.RescanServiceServicer):
    def __init__(self, node: str, rescan: Rescan) -> None:
        self._node = node
        self._rescan = rescan

    async def Rescan(
        self,
        request: rescans_pb2.RescanRequest,  # noqa: ARG002 - it has no field
        context: Context,
    ) -> AsyncIterator[rescans_pb2.RescanResponse]:
        require_peer(context, OPERATOR)
        tally = Tally()
        async with aclosing(self._rescan.run()) as steps:
            async for tally in steps:
                yield self._response(tally)
        yield self._response(tally, done=True)

    async def Finish(
        self,
        request: rescans_pb2.FinishRequest,  # noqa: ARG002 - it has no field
        context: Context,
    ) -> rescans_pb2.FinishResponse:
        require_peer(context, OPERATOR)
        return rescans_pb2.FinishResponse(released=await self._rescan.finish())

    def _response(self, tally: Tally, *, done: bool = False) -> rescans_pb2.RescanResponse:
        return rescans_pb2.RescanResponse(
            node_id=self._node,
            done=done,
            buckets=tally.buckets,
            homes=tally.homes,
            objects=tally.objects,
            bytes=tally.bytes,
            foreign=tally.foreign,
            keys=tally.keys,
            unknown=map(str, tally.unknown) if done else [],
            failed=[f"{bucket} {why}" for bucket, why in tally.failed.items()] if done else [],
            with_keys=map(str, tally.with_keys) if done else [],
        )
