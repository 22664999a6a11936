"""gRPC servers in this process, with TLS, for tests of what speaks to them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Never

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from client import rpc
from client.tests.tls import Authority


def patient_probes(patch: pytest.MonkeyPatch) -> None:
    """Why no call gets through is asked by a handshake; on a busy machine that may take longer than a person waits."""
    patch.setattr(rpc, "_PROBE_SECONDS", 60.0)


@contextmanager
def serving(authority: Authority, add: Callable[[grpc.Server], None], address: str = "127.0.0.1:0") -> Iterator[str]:
    """A server on a free port of the loopback; yields its host:port."""
    with ThreadPoolExecutor(16) as threads:
        server = grpc.server(threads)
        add(server)
        credentials = grpc.ssl_server_credentials([(authority.key, authority.certificate)])
        port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str,
    message: str = "no",
    *,
    retry: timedelta | None = None,
) -> Never:
    """End the call as a role of ours does; `retry` is after what it may be repeated."""
    status = Status(code=code.value[0], message=message)
    status.details.add().Pack(ErrorInfo(reason=reason, domain="oort.test"))
    if retry is not None:
        told = RetryInfo()
        told.retry_delay.FromTimedelta(retry)
        status.details.add().Pack(told)
    context.abort_with_status(rpc_status.to_status(status))
