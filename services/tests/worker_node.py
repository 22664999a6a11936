"""A storage node of several processes, as an operator runs it, and clients of one of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psutil

from domain.tokens import VaultClaims
from services.common.identity import OPERATOR
from services.common.rpc import CHANNEL_OPTIONS
from services.common.settings import split_host_port
from services.common.testing.processes import RoleProcess, a_process
from services.storage.tests.cluster import Client, Cluster
from services.storage.tests.sized import files_below
from services.storage.volumes.staging import PART
from services.tests.conftest import Environment

T = TypeVar("T")

NODE = "a"
_PATIENCE_SECONDS = 300.0
# Of each channel a connection of its own.
_OWN_CONNECTION = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
_LEASE = ("license_server", "license_key", "license_file", "serial")


@dataclass(frozen=True)
class WorkerNode:
    """Node `a` of a cluster, while it runs."""

    cluster: Cluster
    running: RoleProcess

    @property
    def first(self) -> int:
        return self.running.process.pid

    @property
    def data(self) -> Path:
        return self.cluster.settings[NODE].data_dirs[0]

    def others(self) -> list[int]:
        """The further processes, by their ids."""
        return [child.pid for child in psutil.Process(self.first).children()]

    async def worker(self, other_than: int = 0) -> int:
        """A further process that serves."""

        def serving() -> list[int]:
            return [pid for pid in self.others() if pid != other_than and self._listens(pid)]

        return (await until(serving))[0]

    def listening(self, port: int = 0) -> list[int]:
        """Processes of the node to which new callers may come, by the public port or another one."""
        return [pid for pid in (self.first, *self.others()) if self._listens(pid, port)]

    def parts(self) -> list[str]:
        """Bodies on their way in, on any of its disks: those of puts, and of files that it moves."""
        disks = self.cluster.settings[NODE].data_dirs
        return [path.name for disk in disks for path in files_below(disk / "incoming") if path.suffix == PART]

    @asynccontextmanager
    async def client_of(self, pid: int, claims: VaultClaims) -> AsyncIterator[Client]:
        """A client of one of the processes."""
        credentials = grpc.ssl_channel_credentials(self.cluster.certificates.ca.read_bytes())
        async with self._channel(pid, self.cluster.settings[NODE].public_endpoint, credentials) as channel:
            yield Client(channel, claims, self.cluster.token(claims))

    @asynccontextmanager
    async def operator_of(self, pid: int) -> AsyncIterator[grpc.aio.Channel]:
        """An operator's channel to one of the processes."""
        ca, (certificate, key) = self.cluster.certificates.ca, self.cluster.certificates.certificate(OPERATOR, "local")
        credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
        async with self._channel(pid, self.cluster.settings[NODE].internal_endpoint, credentials) as channel:
            yield channel

    @asynccontextmanager
    async def _channel(
        self, pid: int, endpoint: str, credentials: grpc.ChannelCredentials
    ) -> AsyncIterator[grpc.aio.Channel]:
        """Which one gets a connection is the kernel's choice: make some, until it is this one."""
        port = split_host_port(endpoint)[1]
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            before = _callers(pid, port)
            async with grpc.aio.secure_channel(endpoint, credentials, _OWN_CONNECTION) as channel:
                await asyncio.wait_for(channel.channel_ready(), _PATIENCE_SECONDS)
                if _callers(pid, port) - before:
                    yield channel
                    return
        raise AssertionError(f"no connection came to {pid}")

    def _port(self) -> int:
        return split_host_port(self.cluster.settings[NODE].public_endpoint)[1]

    def _listens(self, pid: int, port: int = 0) -> bool:
        try:
            found = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.Error:  # it has ended
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == (port or self._port()) for one in found)


def variables(environment: Environment, cluster: Cluster, **others: Any) -> dict[str, str]:
    """What node `a` is started with; `others` are settings of its own."""
    settings = cluster.node(NODE, **{"workers": 2, **others})
    values = {name: value for name, value in settings.model_dump().items() if value is not None and name not in _LEASE}
    folders = ":".join(map(str, values.pop("data_dirs")))
    for name in ("data_stores", "gone_disks"):
        del values[name]
    return environment("storage", **values, data_dirs=folders)


def _callers(pid: int, port: int) -> set[int]:
    """The ports of those that are connected to one of a process."""
    found = psutil.Process(pid).net_connections(kind="tcp")
    return {one.raddr.port for one in found if one.raddr and one.laddr.port == port}


@contextmanager
def a_node(environment: Environment, cluster: Cluster, **others: Any) -> Iterator[WorkerNode]:
    with a_process("storage", variables(environment, cluster, **others)) as running:
        yield WorkerNode(cluster, running)


async def until(look: Callable[[], T]) -> T:
    """What a look finds, when there is something. Raises AssertionError after five minutes."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.02)
    return found
