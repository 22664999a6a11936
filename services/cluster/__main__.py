import gc

if __name__ == "__main__":
    gc.disable()  # what a start makes is no garbage; process.main has it on again when the role serves

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from oort.cluster.v1.servers_pb2_grpc import add_ServerServiceServicer_to_server

from services.cluster.rpc.servers import ServersRpc
from services.cluster.settings import ClusterSettings
from services.common.listeners import Served
from services.common.process import Parts, Role, Runtime, main


@asynccontextmanager
async def wire(runtime: Runtime[ClusterSettings]) -> AsyncIterator[Parts]:
    """The registry of servers, inside only."""
    rpc = ServersRpc(runtime.db, runtime.clock)
    yield Parts(internal=[Served(add_ServerServiceServicer_to_server, rpc, "oort.cluster.v1.ServerService")])


ROLE = Role("cluster", ClusterSettings, files("services.cluster") / "migrations", wire)

if __name__ == "__main__":
    sys.exit(main(ROLE))
