"""Free TCP ports on loopback.

Kept true: a port answered here was free a moment ago on IPv4 loopback, and the kernel gives it to nobody by itself.
Whoever takes it in between wins, so a server that fails to bind is started again with another.
"""

import secrets
import socket
import sys

LOOPBACK = "127.0.0.1"
# From 32768 on Linux gives ports to outgoing connections (ip-sysctl, ip_local_port_range), others from 49152 on.
_CHOSEN = range(16384, 32768)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now; a port in TIME_WAIT counts as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """One that no connection gets by chance while its server starts, or is down."""
    while not is_free(port := secrets.choice(_CHOSEN)):
        pass
    return port


class PortReservations:
    """Ports that one stack has chosen, and no other stack of this machine will.

    Seconds pass between choosing a port and listening on it. A reservation is a name in Linux's abstract socket space:
    it leaves no file, and goes with its process. On other systems two stacks that start at once may choose the same
    port, and one of them has to choose again.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket | None] = {}

    def take(self, preferred: int = 0) -> int:
        """`preferred` if nothing listens on it and no stack has it, else another."""
        if preferred and is_free(preferred) and self._reserve(preferred):
            return preferred
        while True:
            port = free_port()
            if self._reserve(port):
                return port

    def release(self, port: int) -> None:
        holder = self._held.pop(port, None)
        if holder is not None:
            holder.close()

    def close(self) -> None:
        for port in list(self._held):
            self.release(port)

    def _reserve(self, port: int) -> bool:
        if port in self._held:
            return False
        if sys.platform != "linux":
            self._held[port] = None
            return True
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0oort-port-{port}")
        except OSError:
            holder.close()
            return False
        self._held[port] = holder
        return True
