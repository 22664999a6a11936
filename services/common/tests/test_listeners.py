import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import listeners
from services.common.errors import StartError
from services.common.listeners import Health, Served, internal_credentials, listen, public_credentials
from services.common.settings import ProcessSettings
from services.common.testing.server import Certificates, serving, some_settings

SERVING = health_pb2.HealthCheckResponse.SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def health_stub(channel: grpc.aio.Channel) -> Any:
    # The published stubs describe neither methods nor asyncio.
    return health_pb2_grpc.HealthStub(channel)


async def test_a_watch_of_a_service_that_is_not_here_is_told_so(installation: Certificates) -> None:
    async with serving("auth", installation) as endpoints, endpoints.public_channel() as channel:
        watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service="none"))
        assert (await watch.read()).status == UNKNOWN
        watch.cancel()


async def test_a_client_that_leaves_its_watch_disturbs_nobody(installation: Certificates) -> None:
    async with serving("auth", installation) as endpoints:
        async with endpoints.public_channel() as channel:
            watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
        async with endpoints.public_channel() as channel:
            assert (await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)).status == SERVING


async def test_a_certificate_of_another_authority_is_not_let_in(installation: Certificates, tmp_path: Any) -> None:
    from services.common.testing.certificates import a_certificate_authority

    stranger = a_certificate_authority(tmp_path)
    certificate, key = stranger.certificate("operator", "me")
    credentials = grpc.ssl_channel_credentials(installation.ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
    async with (
        serving("auth", installation) as endpoints,
        grpc.aio.secure_channel(endpoints.internal, credentials) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("make", [public_credentials, internal_credentials])
async def test_a_taken_port_is_named(installation: Certificates, make: Any) -> None:
    credentials = make(some_settings(ProcessSettings, "auth", installation))
    first = await listen("127.0.0.1:0", credentials, [], [])
    try:
        assert isinstance(first.health, Health)
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{first.port}"):
            await listen(f"127.0.0.1:{first.port}", credentials, [], [])
    finally:
        await first.drain(0)


@pytest.mark.parametrize("name", [name for name, _ in listeners._SERVER_OPTIONS])
def test_every_option_of_a_listener_is_one_that_grpc_knows(name: str) -> None:
    """It passes over others, and says nothing."""
    library = find_spec("grpc._cython.cygrpc")
    assert library
    assert library.origin
    assert name.encode() in Path(library.origin).read_bytes()


async def test_what_a_caller_sends_ahead_of_its_reader_is_bounded(
    installation: Certificates,
) -> None:
    piece, most = 64 << 10, 8 << 20
    drawn = 0
    begun, may_read = asyncio.Event(), asyncio.Event()

    async def take(_requests: object, context: Any) -> bytes:
        begun.set()
        await may_read.wait()
        while isinstance(await context.read(), bytes):
            pass
        return b"taken"

    def add(_servicer: object, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Take": grpc.stream_unary_rpc_method_handler(take)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Bodies", handlers),))

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal drawn
        while drawn < most:
            drawn += piece
            yield bytes(piece)

    bodies = [Served(add, None, "test.Bodies")]
    async with (
        serving("auth", installation, public=bodies) as endpoints,
        endpoints.public_channel() as channel,
    ):
        method: Any = channel.stream_unary("/test.Bodies/Take")
        call = method(pieces())
        await begun.wait()
        # What comes after it on the same connection is answered when all that may come has come.
        seen, calls = -1, 0
        while seen != drawn or calls < 20:
            calls = calls + 1 if seen == drawn else 0
            seen = drawn
            await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        ahead = drawn
        may_read.set()
        assert await call == b"taken"

    assert ahead <= (1 << 20) + 4 * piece
    assert drawn == most
