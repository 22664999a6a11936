"""A server of HTTP for tests that says what it is told to, whatever it is asked."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(ThreadingHTTPServer):
    """A server that gives the answers it was told, then always the last one: status, body and a length to claim."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[tuple[int, bytes, int | None]] = deque()
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.held: threading.Event | None = None
        self._taking = threading.Lock()

    def say(self, status: int, code: str = "", *, body: bytes = b"", length: int | None = None) -> None:
        error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else body
        self.answers.append((status, error, length))

    def take(self) -> tuple[int, bytes, int | None]:
        """The next answer; several requests may ask for theirs at once."""
        with self._taking:
            return self.answers[0] if len(self.answers) == 1 else self.answers.popleft()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.command)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.held is not None:
            self.server.held.wait()
        status, body, length = self.server.take()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")  # else the next request may come over one that is about to be closed
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        """Nothing is told."""


@contextmanager
def answering() -> Iterator[Answers]:
    """One that runs in a thread."""
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
