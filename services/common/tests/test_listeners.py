from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import StartError
from services.common.listeners import Health, internal_credentials, listen, public_credentials
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
            assert (await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)).status == SERVING


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
            await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
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
