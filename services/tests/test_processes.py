"""Roles as an operator runs them: real processes, real Postgres, real certificates."""

import asyncio
import urllib.request
from collections.abc import Callable
from typing import Any, cast

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from oort.branding.v1 import brands_pb2, brands_pb2_grpc
from oort.cluster.v1 import servers_pb2, servers_pb2_grpc

from services.common.testing.processes import RoleProcess, a_process
from services.common.testing.server import Certificates, Endpoints, reason_of
from services.tests.conftest import Environment, LicenseServer, put_serial

FindEndpoints = Callable[[RoleProcess], Endpoints]


def health_stub(channel: grpc.aio.Channel) -> Any:
    # The published stubs describe neither methods nor asyncio.
    return health_pb2_grpc.HealthStub(channel)


async def health(channel: grpc.aio.Channel, service: str = "") -> Any:
    return (await health_stub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=60)).status


async def is_waited_for(looker: psycopg.AsyncConnection, table: str) -> bool:
    cursor = await looker.execute("select 1 from pg_locks where not granted and relation = %s::regclass", (table,))
    return await cursor.fetchone() is not None


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return str(answer.read().decode())


def is_shown(lines: tuple[str, ...], metrics: str) -> bool:
    return all(line in metrics.splitlines() for line in lines)


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", channel))
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=60)
    return {service.name async for answer in answers for service in answer.list_services_response.service}


async def test_both_listeners_serve_health_and_reflection_and_the_inner_one_wants_a_certificate(
    environment: Environment, endpoints_of: FindEndpoints
) -> None:
    with a_process("cluster", environment("cluster")) as process:
        endpoints = endpoints_of(process)
        async with endpoints.public_channel() as outside, endpoints.internal_channel("operator", "me") as inside:
            assert await health(outside) == health_pb2.HealthCheckResponse.SERVING
            assert await health(inside, "oort.cluster.v1.ServerService") == health_pb2.HealthCheckResponse.SERVING
            assert "oort.cluster.v1.ServerService" in await reflected(inside)
            assert "oort.cluster.v1.ServerService" not in await reflected(outside)
        stranger = grpc.ssl_channel_credentials(endpoints.certificates.ca.read_bytes())
        async with grpc.aio.secure_channel(endpoints.internal, stranger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.terminate() == 0


async def test_sigterm_lets_a_call_under_way_finish_and_takes_no_new_one(
    environment: Environment, endpoints_of: FindEndpoints
) -> None:
    variables = environment("cluster")
    with a_process("cluster", variables) as process:
        endpoints = endpoints_of(process)
        async with (
            await psycopg.AsyncConnection.connect(variables["OORT_DATABASE_OWNER_URL"]) as owner,
            endpoints.internal_channel("auth", "a1") as channel,
            endpoints.public_channel() as watcher,
        ):
            watch = health_stub(watcher).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await owner.execute("lock table servers")
            server = servers_pb2.Server(role="auth", instance="a1", started=Timestamp(seconds=1))
            stub = servers_pb2_grpc.ServerServiceStub(channel)
            beat = stub.Beat(servers_pb2.BeatRequest(server=server), timeout=60)
            async with await psycopg.AsyncConnection.connect(variables["OORT_DATABASE_OWNER_URL"]) as looker:
                while not await is_waited_for(looker, "servers"):
                    pass
            process.process.terminate()
            # The watch is told, and ends: it does not hold the drain up.
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            async with endpoints.public_channel() as late:
                with pytest.raises(grpc.aio.AioRpcError):
                    await health(late)
            assert process.process.poll() is None
            await owner.rollback()
            assert await beat == servers_pb2.BeatResponse()
        assert await asyncio.to_thread(process.wait) == 0
        assert "Traceback" not in process.log


@pytest.mark.parametrize("listener", ["public", "internal", "metrics"])
def test_a_taken_port_gets_one_line_and_exit_code_1(environment: Environment, listener: str) -> None:
    with a_process("branding", environment("branding")) as first:
        taken = f"127.0.0.1:{first.ports[listener]}"
        variables = environment("branding", "two", **{f"{listener}_listen": taken})
        with a_process("branding", variables, starts=False) as second:
            assert second.wait() == 1
        last = second.lines[-1]
        assert last.startswith(f"oort branding: cannot listen on {taken}")
        assert "Traceback" not in second.log


def test_a_process_without_a_database_says_so(environment: Environment) -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=x user=x password=hidden"
    variables = environment("branding", database_owner_url=nowhere, start_seconds=0)
    with a_process("branding", variables, starts=False) as process:
        assert process.wait() == 1
    assert process.lines[-1].startswith("oort branding: The database cannot be reached:")
    assert "hidden" not in process.log


def test_bad_settings_are_named_in_one_line_with_exit_code_2(environment: Environment) -> None:
    variables = {**environment("branding"), "OORT_PUBLIC_LISTEN": "nonsense", "OORT_TLS_KEY": "/nowhere.pem"}
    with a_process("branding", variables, starts=False) as process:
        assert process.wait() == 2
    assert len(process.lines) == 1
    assert "OORT_PUBLIC_LISTEN" in process.log
    assert "must be host:port" in process.log
    assert "there is no file /nowhere.pem" in process.log


def test_a_serial_nobody_knows_ends_the_process_with_code_3(environment: Environment) -> None:
    variables = environment("branding", serial="NONE-NONE-NONE-NONE-NONE-NONE")
    with a_process("branding", variables, starts=False) as process:
        assert process.wait() == 3
    assert process.lines[-1].startswith("oort branding: no lease: the licence server refuses: This serial is not known")


def test_no_licence_server_and_no_lease_at_hand_ends_the_process_with_code_3(environment: Environment) -> None:
    variables = environment("branding", license_server="127.0.0.1:1", start_seconds=0)
    with a_process("branding", variables, starts=False) as process:
        assert process.wait() == 3
    assert "The licence server at 127.0.0.1:1 cannot be reached" in process.lines[-1]


def test_a_lease_at_hand_starts_an_instance_whose_licence_server_is_away(environment: Environment) -> None:
    variables = environment("branding")
    with a_process("branding", variables) as process:
        assert process.terminate() == 0
    with a_process("branding", {**variables, "OORT_LICENSE_SERVER": "127.0.0.1:1"}) as process:
        assert process.terminate() == 0


async def test_branding_answers_the_default_brand_to_any_tenant(
    environment: Environment, endpoints_of: FindEndpoints
) -> None:
    with a_process("branding", environment("branding")) as process:
        async with endpoints_of(process).public_channel() as channel:
            stub = brands_pb2_grpc.BrandServiceStub(channel)
            for tenant in ("", "01890a5d-ac96-774b-bcce-b302099a8057"):
                brand = (await stub.GetBrand(brands_pb2.GetBrandRequest(tenant_id=tenant), timeout=60)).brand
                assert (brand.tenant_id, brand.product_name) == (tenant, "Oort")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetBrand(brands_pb2.GetBrandRequest(tenant_id="mine"), timeout=60)
            assert reason_of(refused.value) == "INVALID_ARGUMENT"
        method = "/oort.branding.v1.BrandService/GetBrand"
        counted = (
            f'oort_rpc_calls_total{{code="OK",method="{method}"}} 2.0',
            f'oort_rpc_calls_total{{code="INVALID_ARGUMENT",method="{method}"}} 1.0',
            f'oort_rpc_seconds_count{{method="{method}"}} 3.0',
        )
        async with asyncio.timeout(60):  # a call is counted after its answer has left
            while not is_shown(counted, await asyncio.to_thread(page, process.ports["metrics"])):  # noqa: ASYNC110 - it is the role that counts
                await asyncio.sleep(0.05)


async def test_the_cluster_role_lists_every_role_that_beats_and_itself(
    environment: Environment, endpoints_of: FindEndpoints
) -> None:
    with a_process("cluster", environment("cluster")) as cluster:
        target = f"localhost:{cluster.ports['internal']}"
        with a_process("branding", environment("branding", cluster_server=target)):
            async with endpoints_of(cluster).internal_channel("operator", "me") as channel:
                stub = servers_pb2_grpc.ServerServiceStub(channel)
                found: list[servers_pb2.Server] = []
                while not found:
                    found = list((await stub.ListServers(servers_pb2.ListServersRequest(), timeout=60)).servers)
        assert [(server.role, server.instance) for server in found] == [("branding", "one")]


def test_a_cluster_role_that_is_away_stops_nobody(environment: Environment) -> None:
    with a_process("branding", environment("branding", cluster_server="127.0.0.1:1")) as process:
        process.wait_for("the cluster role does not hear us")
        assert process.terminate() == 0


def test_a_process_told_to_end_while_it_waits_for_its_database_ends_well(environment: Environment) -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=x user=x"
    variables = environment("branding", database_owner_url=nowhere, start_seconds=600)
    with a_process("branding", variables, starts=False) as process:
        process.wait_for("waiting")
        assert process.terminate() == 0


def test_a_process_ends_with_code_4_once_lease_and_grace_are_over(
    plain_environment: Environment, installation: Certificates, license_server: LicenseServer, environment: Environment
) -> None:
    signing_key = license_server.key.with_name("signing.pem")
    short = plain_environment("license", "short", signing_key=signing_key, lease_seconds=8, grace_seconds=0)
    with a_process("license", short) as license_role:
        put_serial(license_role, installation)
        variables = environment("branding", license_server=f"localhost:{license_role.ports['public']}")
        with a_process("branding", variables) as process:
            license_role.process.kill()
            assert process.wait() == 4
    assert process.lines[-1].startswith("oort branding: the lease ended at ")
    assert "Traceback" not in process.log


async def test_workers_of_one_role_may_share_a_port(environment: Environment, endpoints_of: FindEndpoints) -> None:
    with a_process("branding", environment("branding", share_port=True)) as first:
        shared = f"127.0.0.1:{first.ports['public']}"
        with a_process("branding", environment("branding", "two", share_port=True, public_listen=shared)) as second:
            assert second.ports["public"] == first.ports["public"]
            async with endpoints_of(second).public_channel() as channel:
                assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
