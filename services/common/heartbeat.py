"""Heartbeats to the cluster role: it knows a server by them. A cluster role that is away stops nobody."""

from datetime import datetime
from importlib.metadata import version

import grpc
import structlog
from oort.cluster.v1 import servers_pb2, servers_pb2_grpc

from services.common.clock import Clock
from services.common.messages import timestamp_of
from services.common.rpc import internal_channel
from services.common.settings import ProcessSettings

SECONDS_BETWEEN = 30.0
_CALL_SECONDS = 10.0


async def beat(role: str, settings: ProcessSettings, target: str, started: datetime, clock: Clock) -> None:
    """Tell the cluster role at `target` of this instance, for ever."""
    log = structlog.get_logger("heartbeat")
    server = servers_pb2.Server(
        role=role,
        instance=settings.instance,
        version=version("oort"),
        public_endpoint=settings.public_endpoint,
        internal_endpoint=settings.internal_endpoint,
        started=timestamp_of(started),
    )
    reached = True
    async with internal_channel(settings, target) as channel:
        stub = servers_pb2_grpc.ServerServiceStub(channel)
        while True:
            try:
                await stub.Beat(servers_pb2.BeatRequest(server=server), timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if reached:
                    # Once for every outage, not every half minute.
                    log.warning("the cluster role does not hear us", target=target, reason=error.details())
                reached = False
            else:
                if not reached:
                    log.info("the cluster role hears us again", target=target)
                reached = True
            await clock.sleep(SECONDS_BETWEEN)
