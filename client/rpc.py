"""gRPC as the client uses it: TLS under the given CA alone, deadlines, refusals read, pauses between attempts.

Kept true: a server whose certificate the given CA did not sign is never spoken to, and is told apart from one
that cannot be reached.
"""

import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from client.errors import OortError, ServerUnreachable, UntrustedServer, UsageError, reason_of

Metadata = tuple[tuple[str, str], ...]

_DETAILS_KEY = "grpc-status-details-bin"
_PROBE_SECONDS = 5.0
_WIDEST_SPREAD = 1.0  # seconds
_is_port = re.compile(r"[0-9]{1,5}").fullmatch
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Channels of one process would otherwise share one TCP connection, and die together.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # retried by us, where the call is idempotent
    # For the whole of a handshake, whatever its name says: a slow line, or a busy server, takes seconds.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call failed: `reason` is a name of the role's Reason enum, or empty when no server answered.

    `retry_seconds` is what the server says of when the same call may go through, if it does.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    retry_seconds: float | None = None

    @property
    def is_outage(self) -> bool:
        """True when the call may be repeated as it is: nobody answered, or the server says it cannot just now."""
        if self.code is grpc.StatusCode.CANCELLED:
            return not self.reason  # by a server that is going down
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def read_refusal(error: grpc.RpcError) -> Refusal:
    """Read code, message and details of a failed call."""
    message = error.details() or error.code().name
    trailing = cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key == _DETAILS_KEY:
            info, retry_seconds = read_details(value)
            return Refusal(error.code(), info.reason, message, dict(info.metadata), retry_seconds)
    return Refusal(error.code(), "", message)


def read_details(status: bytes) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    """The ErrorInfo in a google.rpc.Status, and the seconds that its RetryInfo says, if it has one.

    An empty one if there is none, or it is no Status: the call has failed in any case.
    """
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    seconds = None
    try:
        for detail in status_pb2.Status.FromString(status).details:
            if detail.Unpack(retry):
                seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            else:
                detail.Unpack(info)
    except DecodeError:
        pass
    return info, seconds


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long to go on trying, and the pauses between attempts; all in seconds."""

    patience: float
    first_pause: float = 0.2
    longest_pause: float = 10.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random  # a fraction of 1; spreads clients, keeps no secret

    def pause(self, attempt: int) -> None:
        """Wait before attempt number `attempt` (1 is the first repetition): doubling, and half of it random."""
        longest = min(self.first_pause * 2 ** min(attempt - 1, 10), self.longest_pause)
        self.sleep(longest * (0.5 + self.jitter() / 2))

    def pause_for(self, seconds: float, attempt: int) -> None:
        """Wait as long as a server says, within bounds, and by chance up to half as long again: clients spread.

        That half doubles with each attempt up to a second; further, and some of many callers would wait for minutes.
        """
        told = min(max(seconds, self.first_pause), self.longest_pause)
        more = min(told / 2 * 2 ** min(attempt - 1, 10), max(told / 2, _WIDEST_SPREAD))
        self.sleep(told + more * self.jitter())


def read_ca(file: Path) -> bytes:
    """The CA certificates in PEM. Raises UsageError when the file is none."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise UsageError(detail=f"The CA file {file} cannot be read: {error.strerror}.") from None
    try:
        trusting(pem)
    except (ValueError, ssl.SSLError):
        raise UsageError(detail=f"{file} holds no certificate in PEM form.") from None
    return pem


def trusting(ca_pem: bytes) -> ssl.SSLContext:
    """TLS that trusts these certificates alone. Raises ValueError, ssl.SSLError when there are none."""
    # Not create_default_context: with nothing to trust it would trust what the machine trusts.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    if not context.cert_store_stats()["x509_ca"]:
        raise ValueError("no CA certificate")
    context.set_alpn_protocols(["h2"])
    return context


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`. Raises UsageError."""
    host, _, port = endpoint.rpartition(":")
    if not host or not _is_port(port) or not 0 < int(port) < 1 << 16:
        raise UsageError(detail=f"{endpoint!r} is not a server address: give HOST:PORT.")
    return host.strip("[]"), int(port)


def tls_channel(endpoint: str, ca_pem: bytes, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
    """A channel that trusts nothing but the given CA. Close it."""
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    return grpc.secure_channel(endpoint, credentials, options=(*CHANNEL_OPTIONS, *options))


def explain_outage(endpoint: str, ca_pem: bytes, ca_file: str, said: str) -> OortError:
    """Why no call gets through: UntrustedServer or ServerUnreachable, found out by a TLS handshake of our own."""
    host, port = split_endpoint(endpoint)
    context = trusting(ca_pem)
    try:
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS) as plain:
            _shake_hands(plain, context, host)
        return ServerUnreachable(server=endpoint, reason=_one_line(said))
    except ssl.SSLCertVerificationError:
        return UntrustedServer(server=endpoint, ca=ca_file)
    except ssl.SSLError:
        return ServerUnreachable(server=endpoint, reason="what listens there does not speak TLS")
    except TimeoutError:
        return ServerUnreachable(server=endpoint, reason="no answer in time")
    except socket.gaierror:
        return ServerUnreachable(server=endpoint, reason="the name is unknown")
    except OSError as error:
        return ServerUnreachable(server=endpoint, reason=reason_of(error))


def _shake_hands(plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
    """A TLS handshake on a socket that stays the caller's. Raises ssl.SSLError, OSError.

    Not wrap_socket: on a connection that was reset before, some versions of it leave a socket that nobody closes.
    """
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, to_send, server_hostname=host)
    while True:
        try:
            return tls.do_handshake()
        except ssl.SSLWantReadError:
            plain.sendall(to_send.read())
            if part := plain.recv(1 << 16):
                received.write(part)
            else:
                received.write_eof()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
