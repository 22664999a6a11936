import contextlib
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from client.rpc import tls_channel
from client.tests.servers import serving
from client.tests.tls import an_authority

_FAR = 0.4  # seconds that a line takes from end to end: a satellite, or a node that makes 50 handshakes at once


class _SlowLine:
    """A line to a server on which whatever is sent arrives late; `connections` counts what was begun on it."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._gone = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._gone.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(self._server)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:
            while (part := source.recv(1 << 16)) and not self._gone.wait(_FAR):
                target.sendall(part)


@pytest.fixture
def slow_line() -> Iterator[tuple[_SlowLine, bytes]]:
    authority = an_authority()
    with serving(authority, lambda _server: None) as endpoint:
        line = _SlowLine(endpoint)
        yield line, authority.ca
        line.close()


def test_a_handshake_over_a_slow_line_is_not_given_up(slow_line: tuple[_SlowLine, bytes]) -> None:
    line, ca = slow_line
    with tls_channel(line.endpoint, ca) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
    assert line.connections == 1
