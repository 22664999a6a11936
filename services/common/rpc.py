"""Calls to other roles: channels over mutual TLS, deadlines, and retries of calls that may be repeated."""

import random
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import grpc

from services.common.clock import Clock, SystemClock
from services.common.settings import ProcessSettings

MAX_MESSAGE_BYTES = 4 << 20

# Both ends send a ping on an idle connection, so that a dead peer is noticed within a minute.
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Retries are ours (`call`), with deadlines and jitter; grpc's own would repeat calls that may not be repeated.
    ("grpc.enable_retries", 0),
    # For the whole of a handshake, whatever its name says: a slow line, or a busy server, takes seconds.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

_RETRIED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED})
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0

Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)
Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryMethod(Protocol[Request_contra, Response_co]):
    """A unary method of a generated stub on an aio channel."""

    def __call__(self, request: Request_contra, *, timeout: float | None = None) -> Awaitable[Response_co]: ...


def internal_channel(settings: ProcessSettings, target: str) -> grpc.aio.Channel:
    """A channel to the internal listener at `target`, host:port, with this instance's certificate. Close it."""
    credentials = grpc.ssl_channel_credentials(
        settings.ca_certificate.read_bytes(), settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes()
    )
    return grpc.aio.secure_channel(target, credentials, CHANNEL_OPTIONS)


async def call(
    method: UnaryMethod[Request, Response],
    request: Request,
    *,
    seconds: float,
    attempts: int = 1,
    clock: Clock | None = None,
    chance: random.Random | None = None,
) -> Response:
    """Call a unary method within `seconds` in all; more than one attempt only where the call may be repeated.

    Only UNAVAILABLE and ABORTED are tried again, after a pause that doubles and is shortened at random by up to half.
    Raises grpc.aio.AioRpcError as the last attempt did.
    """
    clock, chance = clock or SystemClock(), chance or random.SystemRandom()
    end = clock.monotonic() + seconds
    pause = _FIRST_PAUSE
    for attempt in range(1, attempts + 1):
        left = max(0.001, end - clock.monotonic())
        try:
            return await method(request, timeout=left)
        except grpc.aio.AioRpcError as error:
            wait = pause * chance.uniform(0.5, 1)
            if attempt == attempts or error.code() not in _RETRIED or clock.monotonic() + wait >= end:
                raise
        await clock.sleep(wait)
        pause = min(_LONGEST_PAUSE, pause * 2)
    raise ValueError("a call needs at least one attempt")
