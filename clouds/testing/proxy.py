"""A proxy of HTTP for tests, in front of the server of a store: it passes on what is asked, or does something worse.

What it does with a request is a function of it, its `treatment`: from the request to the answer that is sent, or to
None, after which the connection is cut.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_OF_THE_CONNECTION = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"))


@dataclass(frozen=True)
class Answer:
    """`claimed` is the length that the answer says of its body."""

    status: int
    body: bytes = b""
    claimed: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, body: bytes = b"") -> "Answer":
        return cls(status, body, len(body))

    @classmethod
    def refusal(cls, status: int, code: str) -> "Answer":
        """As S3 has it."""
        return cls.of(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def cut(self) -> "Answer":
        """Half of its body, after which the connection breaks."""
        return replace(self, body=self.body[: len(self.body) // 2])

    def shortened(self) -> "Answer":
        """Half of its body, which is said to be all."""
        half = self.cut()
        return replace(half, claimed=len(half.body))


@dataclass(frozen=True)
class Request:
    """What a client asks for. `path` and `query` are as they came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    server: str

    @property
    def is_of_a_list(self) -> bool:
        return self.method == "GET" and "list-type" in parse_qs(self.query)

    def passed_on(self) -> Answer:
        """What the server answers. Raises OSError."""
        connection = self._sent(self.body)
        try:
            answer = connection.getresponse()
            body = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION}
            return Answer(answer.status, body, int(answer.getheader("Content-Length") or len(body)), headers)
        finally:
            connection.close()

    def half_passed_on(self) -> None:
        """The server gets half of the body, and then no more."""
        self._sent(self.body[: len(self.body) // 2]).close()

    def _sent(self, body: bytes) -> HTTPConnection:
        connection = HTTPConnection(self.server, timeout=60)
        connection.putrequest(
            self.method,
            self.path + (f"?{self.query}" if self.query else ""),
            skip_host=True,
            skip_accept_encoding=True,
        )
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection


Treatment = Callable[[Request], Answer | None]


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: str) -> None:
        """In front of `server`, HOST:PORT."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server
        self.treatment: Treatment = Request.passed_on
        self.asked: list[Request] = []

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone, or a server that cut a request, is nothing to be told of."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, parts.path, parts.query, dict(self.headers), body, self.server.server)
        self.server.asked.append(request)
        answer = self.server.treatment(request)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.claimed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or len(answer.body) < answer.claimed

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        """Nothing is told."""


@contextmanager
def a_proxy(server: str) -> Iterator[Proxy]:
    """One in front of `server`, HOST:PORT, that runs in threads of this process."""
    with Proxy(server) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
