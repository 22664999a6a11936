"""The two gRPC listeners of a role: public over TLS, internal over mutual TLS, both with health and reflection.

grpcio can demand a client certificate or never see one, so one port cannot do both.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from services.common.errors import StartError
from services.common.rpc import CHANNEL_OPTIONS
from services.common.settings import ProcessSettings

Context = grpc.aio.ServicerContext[Any, Any]
# What a caller may send ahead of what a stream of it was asked for, so what gRPC holds of a body that nobody reads.
# Left to itself it measures the line and grows this: to 10 MiB and more for each of 200 streams on a busy machine.
_WINDOW_BYTES = 1 << 20
_SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *CHANNEL_OPTIONS,
    # Callers ping at the pace that they like, down to every 10 seconds. Left to itself gRPC takes more than one in five
    # minutes for too many, and closes the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


@dataclass(frozen=True, slots=True)
class Served:
    """One gRPC service: its generated `add_..._to_server`, the servicer, and its full name."""

    add: Callable[[Any, Any], None]
    servicer: object
    name: str


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1 for services that serve from the start until the server drains.

    A watch is told NOT_SERVING and ends when draining begins: grpcio's own servicer would hold the drain up to its last
    second.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Say NOT_SERVING from now on."""
        self._draining.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service} here")
        return self._status()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        if request.service in self._services:
            await context.write(self._status())
        else:
            await context.write(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN))
        if not self._draining.is_set():
            await self._draining.wait()
            await context.write(self._status())

    def _status(self) -> health_pb2.HealthCheckResponse:
        status = health_pb2.HealthCheckResponse
        return status(status=status.NOT_SERVING if self._draining.is_set() else status.SERVING)


@dataclass(slots=True)
class Listener:
    """One started server; `port` is the one it got, also where it asked for port 0."""

    server: grpc.aio.Server
    port: int
    health: Health = field(repr=False)

    async def drain(self, seconds: float) -> None:
        """Say NOT_SERVING, take no new calls, let those under way finish for `seconds`, then end them."""
        self.health.drain()
        await self.server.stop(seconds)


def public_credentials(settings: ProcessSettings) -> grpc.ServerCredentials:
    """TLS with the instance's certificate; callers show none."""
    return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())])


def internal_credentials(settings: ProcessSettings) -> grpc.ServerCredentials:
    """TLS in which callers must show a certificate of the installation's CA."""
    return grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())],
        root_certificates=settings.ca_certificate.read_bytes(),
        require_client_auth=True,
    )


async def listen(
    listen_on: str,
    credentials: grpc.ServerCredentials,
    services: Sequence[Served],
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    *,
    share_port: bool = False,
) -> Listener:
    """Start a server with `services`, health and reflection. Raises StartError when the port is taken."""
    options = (*_SERVER_OPTIONS, ("grpc.so_reuseport", int(share_port)))
    server = grpc.aio.server(interceptors=list(interceptors), options=options)
    names = [service.name for service in services]
    health = Health(names)
    for service in services:
        service.add(service.servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflected = ReflectionServicer([*names, _HEALTH, reflection.SERVICE_NAME])
    add_ServerReflectionServicer_to_server(reflected, server)  # type: ignore[no-untyped-call] # the stubs lack it
    try:
        port = server.add_secure_port(listen_on, credentials)
    except RuntimeError as error:
        await server.stop(None)
        raise StartError(
            f"cannot listen on {listen_on}: the port is taken, or the address is not of this host"
        ) from error
    await server.start()
    return Listener(server, port, health)
