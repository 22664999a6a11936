"""NodeService: what an operator orders of nodes. Internal listener."""

from typing import Any

import grpc
from oort.storage.v1 import nodes_pb2, nodes_pb2_grpc

from services.common.database import Database
from services.common.identity import OPERATOR, require_peer
from services.storage.rpc.buckets import node_message
from services.storage.upkeep import nodes

Context = grpc.aio.ServicerContext[Any, Any]


class NodesRpc(nodes_pb2_grpc.NodeServiceServicer):
    def __init__(self, db: Database, silent_seconds: float) -> None:
        self._db = db
        self._silent_seconds = silent_seconds

    async def DrainNode(self, request: nodes_pb2.DrainNodeRequest, context: Context) -> nodes_pb2.DrainNodeResponse:
        require_peer(context, OPERATOR)
        found = await nodes.drain(self._db, request.node_id, self._silent_seconds)
        return nodes_pb2.DrainNodeResponse(node=node_message(found))

    async def UndrainNode(
        self, request: nodes_pb2.UndrainNodeRequest, context: Context
    ) -> nodes_pb2.UndrainNodeResponse:
        require_peer(context, OPERATOR)
        found = await nodes.undrain(self._db, request.node_id, self._silent_seconds)
        return nodes_pb2.UndrainNodeResponse(node=node_message(found))

    async def RemoveNode(self, request: nodes_pb2.RemoveNodeRequest, context: Context) -> nodes_pb2.RemoveNodeResponse:
        require_peer(context, OPERATOR)
        found = await nodes.remove(
            self._db, request.node_id, self._silent_seconds, lost=request.lost, give_up=request.give_up
        )
        return nodes_pb2.RemoveNodeResponse(
            removed=found.removed,
            given_up=found.given_up,
            names=[f"{one.bucket_id} {one.name}" for one in found.names],
        )
