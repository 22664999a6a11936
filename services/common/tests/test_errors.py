"""What a caller gets when a call fails, through a real server."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import psycopg
import pytest
import redis.exceptions
import structlog
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from services.common import logs
from services.common.errors import InternalError, InvalidArgument, NotFound, ServiceError, Unavailable
from services.common.identity import bearer, peer, require_peer
from services.common.listeners import Served
from services.common.testing.server import Certificates, Endpoints, reason_of, serving

# The tests' own service: a method of each kind that does what it is told.
NAME = "test.v1.TestService"


class Told:
    """Raises or answers what `act` says, in each kind of method."""

    def __init__(self, act: Any) -> None:
        self.act = act

    async def unary(self, request: bytes, context: Any) -> bytes:
        return bytes(self.act(request, context))

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        yield bytes(self.act(request, context))

    async def gather(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return bytes(self.act(b"".join([request async for request in requests]), context))

    async def both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield bytes(self.act(request, context))


def add(told: Any, server: grpc.aio.Server) -> None:
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(told.unary),
        "Stream": grpc.unary_stream_rpc_method_handler(told.stream),
        "Gather": grpc.stream_unary_rpc_method_handler(told.gather),
        "Both": grpc.stream_stream_rpc_method_handler(told.both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


def told(act: Any) -> Served:
    return Served(add, Told(act), NAME)


def raising(error: BaseException) -> Served:
    def act(*_: object) -> bytes:
        raise error

    return told(act)


def untyped(channel: grpc.aio.Channel) -> Any:
    """For methods without serializers: their messages are bytes, which the stubs do not know."""
    return channel


async def unary(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
    return await untyped(channel).unary_unary(f"/{NAME}/Unary")(b"x", timeout=60, metadata=metadata)


@contextmanager
def log_lines() -> Iterator[io.StringIO]:
    logs.configure("info", role="test")
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    before, lines = handler.stream, io.StringIO()
    handler.setStream(lines)
    try:
        yield lines
    finally:
        handler.setStream(before)
        logging.getLogger().handlers.clear()
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


class Teapot(ServiceError):
    """{pot} is a teapot."""

    reason = "TEAPOT"
    code = grpc.StatusCode.FAILED_PRECONDITION


async def test_a_refusal_carries_its_reason_and_domain_in_every_kind_of_call(installation: Certificates) -> None:
    async with (
        serving("storage", installation, public=[raising(Teapot(pot="This"))]) as endpoints,
        endpoints.public_channel() as channel,
    ):
        bare = untyped(channel)
        calls = [
            bare.unary_unary(f"/{NAME}/Unary")(b"x", timeout=60),
            bare.stream_unary(f"/{NAME}/Gather")(iter([b"x", b"y"]), timeout=60),
        ]
        refusals = []
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            refusals.append(refused.value)
        streams = [
            bare.unary_stream(f"/{NAME}/Stream")(b"x", timeout=60),
            bare.stream_stream(f"/{NAME}/Both")(iter([b"x"]), timeout=60),
        ]
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                assert [answer async for answer in stream] == [b"first"]
            refusals.append(refused.value)
    for refusal in refusals:
        assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.details() == "This is a teapot."
        status: Any = rpc_status.from_call(refusal)  # type: ignore[arg-type] # made for sync calls; it reads what both have
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == ("TEAPOT", "oort.storage")


@pytest.mark.parametrize(
    "outage",
    [
        psycopg.OperationalError("server closed the connection"),
        psycopg.errors.SerializationFailure("could not serialize"),
        redis.exceptions.ConnectionError("refused"),
        redis.exceptions.TimeoutError("slow"),
        Unavailable(what="The database"),
    ],
)
async def test_an_outage_behind_a_role_is_unavailable(installation: Certificates, outage: Exception) -> None:
    with log_lines() as lines:
        async with (
            serving("auth", installation, public=[raising(outage)]) as endpoints,
            endpoints.public_channel() as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "UNAVAILABLE"
    assert "try again" in (refused.value.details() or "")
    assert "Traceback" not in lines.getvalue()


async def test_a_fault_is_logged_with_a_traceback_and_the_caller_gets_its_id_alone(installation: Certificates) -> None:
    with log_lines() as lines:
        async with (
            serving("auth", installation, public=[raising(ZeroDivisionError("the secret"))]) as endpoints,
            endpoints.public_channel() as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel)
    details = refused.value.details() or ""
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert reason_of(refused.value) == "INTERNAL"
    assert "secret" not in details
    error_id = details.split()[-1].rstrip(".")
    assert len(error_id) == 12
    assert error_id in lines.getvalue()
    assert "Traceback" in lines.getvalue()


async def test_a_status_that_a_call_sets_itself_passes(installation: Certificates) -> None:
    async with (
        serving("auth", installation) as endpoints,
        endpoints.public_channel() as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=60)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_is_its_docstring_filled_in() -> None:
    assert str(NotFound(what="vault of that name")) == "There is no vault of that name."
    assert str(InvalidArgument(detail="Name it.")) == "Name it."
    assert str(InternalError(error_id="abc")).endswith("abc.")


async def test_a_peer_is_the_instance_in_its_certificate(installation: Certificates) -> None:
    def who(_: bytes, context: Any) -> bytes:
        return str(require_peer(context, "auth", "operator")).encode()

    async with serving("cluster", installation, internal=[told(who)], public=[told(lambda _, c: str(peer(c)))]) as at:
        assert await answer_to(at, "auth", "a1") == b"oort://auth/a1"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answer_to(at, "storage", "s1")
        assert reason_of(refused.value) == "NOT_ALLOWED"
        async with at.public_channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel)
            assert reason_of(refused.value) == "NOT_ALLOWED"


async def answer_to(endpoints: Endpoints, role: str, instance: str) -> Any:
    async with endpoints.internal_channel(role, instance) as channel:
        return await unary(channel)


async def test_a_bearer_token_is_read_from_the_metadata(installation: Certificates) -> None:
    async with (
        serving("auth", installation, public=[told(lambda _, context: bearer(context).encode())]) as endpoints,
        endpoints.public_channel() as channel,
    ):
        assert await unary(channel, (("authorization", "Bearer t0k3n"),)) == b"t0k3n"
        for metadata in ((), (("authorization", "Basic x"),), (("authorization", "Bearer "),)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel, metadata)
            assert reason_of(refused.value) == "NOT_SIGNED_IN"
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_caller_that_leaves_in_the_middle_is_no_fault(installation: Certificates) -> None:
    left = asyncio.Event()

    class Endless(Told):
        async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
            del request, context
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                left.set()

        async def both(self, requests: AsyncIterator[bytes], context: Any) -> None:  # type: ignore[override] # grpc takes either form
            del requests
            try:
                while True:
                    await context.write(bytes(1 << 20))
            finally:
                left.set()

    with log_lines() as lines:
        async with serving("storage", installation, public=[Served(add, Endless(None), NAME)]) as endpoints:
            for attempt in range(8):
                left.clear()
                async with endpoints.public_channel() as channel:
                    bare = untyped(channel)
                    if attempt % 2:
                        stream = bare.unary_stream(f"/{NAME}/Stream")(b"x", timeout=60)
                    else:
                        stream = bare.stream_stream(f"/{NAME}/Both")(timeout=60)
                    assert len(await stream.read()) == 1 << 20
                await asyncio.wait_for(left.wait(), 60)
    assert "call failed" not in lines.getvalue()
    assert "Traceback" not in lines.getvalue()
