"""The line between a device and its servers, which a test can cut: real TCP proxies in threads of this process."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

_LOOPBACK = "127.0.0.1"
_PART = 64 << 10


class Line:
    """All proxies of a device. While it is cut, connections are reset and new ones refused, as without a network.

    `take_port` chooses their ports, which nobody else may take while it is cut.
    """

    def __init__(self, take_port: Callable[[], int]) -> None:
        self.is_cut = threading.Event()
        self.carried = 0  # bytes in both directions
        self.cuts = 0
        self._cut_at: int | None = None
        self._back_after: float | None = None
        self._lock = threading.Lock()
        self._take_port = take_port
        self._proxies: dict[str, Proxy] = {}
        self._mended_seconds = 0.0
        self._cut_since: float | None = None

    @property
    def seconds_cut(self) -> float:
        """How long it has been cut so far, all cuts together."""
        with self._lock:
            lasting = 0.0 if self._cut_since is None else time.monotonic() - self._cut_since
            return self._mended_seconds + lasting

    def to(self, endpoint: str) -> str:
        """Where to find a server (host:port) by way of this line."""
        with self._lock:
            if endpoint not in self._proxies:
                self._proxies[endpoint] = Proxy(self, endpoint, self._take_port())
            return self._proxies[endpoint].address

    def lead(self, name: str, endpoint: str) -> None:
        """Say where the server is that `to` was asked for by another name."""
        self._proxies[name].endpoint = endpoint

    def cut(self) -> None:
        """Until `mend`."""
        with self._lock:
            self._cut_since = self._cut_since or time.monotonic()
        self.is_cut.set()
        for proxy in list(self._proxies.values()):
            proxy.cut()

    def cut_after(self, carried: int, seconds: float | None) -> None:
        """Cut when so many bytes more have been carried; it is back after `seconds`, or never."""
        self._back_after = seconds
        self._cut_at = self.carried + carried

    def count(self, size: int) -> None:
        with self._lock:
            self.carried += size
            if self._cut_at is None or self.carried < self._cut_at:
                return
            self._cut_at = None
            self.cuts += 1
        self.cut()
        if self._back_after is not None:
            threading.Timer(self._back_after, self.mend).start()

    def mend(self) -> None:
        for proxy in self._proxies.values():
            proxy.listen()
        self.is_cut.clear()
        with self._lock:
            if self._cut_since is not None:
                self._mended_seconds += time.monotonic() - self._cut_since
            self._cut_since = None

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.cut()


class Proxy:
    """One server by way of a line, on a port of the loopback that stays the same."""

    def __init__(self, line: Line, endpoint: str, port: int) -> None:
        self._line = line
        self.endpoint = endpoint
        self._port = port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.listen()

    @property
    def address(self) -> str:
        return f"{_LOOPBACK}:{self._port}"

    def listen(self) -> None:
        listener = socket.create_server((_LOOPBACK, self._port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            ended = [*self._open, *([self._listener] if self._listener else [])]
            self._open.clear()
            self._listener = None
        for one in ended:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                host, _, port = self.endpoint.rpartition(":")
                try:
                    far = socket.create_connection((host.strip("[]"), int(port)))
                except OSError:  # the server is down
                    near.close()
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # short messages do not wait here
                with self._lock:
                    if self._listener is not listener:  # cut since: what was accepted before must not outlive it
                        near.close()
                        far.close()
                        return
                    self._open |= {near, far}
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(_PART):
                target.sendall(part)
                self._line.count(len(part))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def a_line(take_port: Callable[[], int]) -> Iterator[Line]:
    line = Line(take_port)
    try:
        yield line
    finally:
        line.close()
