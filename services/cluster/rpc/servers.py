from typing import Any

import grpc
from oort.cluster.v1 import servers_pb2, servers_pb2_grpc

from services.cluster.servers import Server
from services.cluster.store import servers
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import InvalidArgument, NotAllowed
from services.common.identity import OPERATOR, peer, require_peer
from services.common.messages import datetime_of, timestamp_of
from services.common.paging import page_of

_FIRST = ("", "")
_LONGEST_TEXT = 255

Context = grpc.aio.ServicerContext[Any, Any]


class ServersRpc(servers_pb2_grpc.ServerServiceServicer):
    """oort.cluster.v1.ServerService"""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def Beat(self, request: servers_pb2.BeatRequest, context: Context) -> servers_pb2.BeatResponse:
        caller, said = peer(context), request.server
        if (said.role, said.instance) != (caller.role, caller.name):
            raise NotAllowed(detail=f"{caller} may report of itself alone.")
        if max(map(len, (said.version, said.public_endpoint, said.internal_endpoint))) > _LONGEST_TEXT:
            raise InvalidArgument(detail=f"version and endpoints have at most {_LONGEST_TEXT} characters.")
        server = Server(
            role=said.role,
            instance=said.instance,
            version=said.version,
            public_endpoint=said.public_endpoint,
            internal_endpoint=said.internal_endpoint,
            started=datetime_of(said.started, "server.started"),
            last_seen=self._clock.now(),
        )
        async with self._db.unit() as unit:
            await servers.put(unit, server)
        return servers_pb2.BeatResponse()

    async def ListServers(
        self, request: servers_pb2.ListServersRequest, context: Context
    ) -> servers_pb2.ListServersResponse:
        require_peer(context, OPERATOR, "cluster")
        page = page_of(request, parts=len(_FIRST))
        role, instance = page.after or _FIRST
        async with self._db.unit() as unit:
            found = await servers.after(unit, role, instance, page.limit)
        shown, next_page_token = page.cut(found, lambda server: (server.role, server.instance))
        return servers_pb2.ListServersResponse(servers=map(_message, shown), next_page_token=next_page_token)


def _message(server: Server) -> servers_pb2.Server:
    return servers_pb2.Server(
        role=server.role,
        instance=server.instance,
        version=server.version,
        public_endpoint=server.public_endpoint,
        internal_endpoint=server.internal_endpoint,
        started=timestamp_of(server.started),
        last_seen=timestamp_of(server.last_seen),
    )
