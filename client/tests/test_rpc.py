import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator

import grpc
import pytest

from client.errors import OortError, ServerUnreachable, UntrustedServer
from client.rpc import explain_outage, tls_channel
from client.tests.servers import patient_probes, serving
from client.tests.tls import an_authority

_FAR = 0.4  # seconds that a line takes from end to end: a satellite, or a node that makes 50 handshakes at once


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_probes(monkeypatch)


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
        grpc.channel_ready_future(channel).result(timeout=60)
    assert line.connections == 1


def _explained(endpoint: str, ca_pem: bytes) -> OortError:
    return explain_outage(endpoint, ca_pem, "ca.pem", "said")


def test_a_server_that_answers_a_handshake_well_is_told_with_what_the_call_said() -> None:
    authority = an_authority()
    with serving(authority, lambda _server: None) as endpoint:
        error = _explained(endpoint, authority.ca)
    assert isinstance(error, ServerUnreachable)
    assert "said" in str(error)


def test_a_server_of_another_authority_is_told_apart() -> None:
    with serving(an_authority(), lambda _server: None) as endpoint:
        assert isinstance(_explained(endpoint, an_authority().ca), UntrustedServer)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["a close", "another protocol"])
def test_what_speaks_no_tls_is_told_as_that(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        error = _explained(f"127.0.0.1:{listener.getsockname()[1]}", an_authority().ca)
        server.join()
    assert "does not speak TLS" in str(error)


def test_a_connection_reset_before_the_handshake_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connect_and_lose(address: tuple[str, int], timeout: float) -> socket.socket:
            ours = connect(address, timeout=timeout)
            with listener.accept()[0] as theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            select.select([ours], [], [], timeout)
            return ours

        monkeypatch.setattr(socket, "create_connection", connect_and_lose)
        # An unclosed socket is a warning, and so the test's failure.
        error = _explained(f"127.0.0.1:{listener.getsockname()[1]}", an_authority().ca)
    assert isinstance(error, ServerUnreachable)
