"""Ports that the processes of one instance listen on together (SO_REUSEPORT), and nobody else's.

With SO_REUSEPORT any process of the same user may join. Kept true: whoever has come to a port by `reserved` found that
nobody listened there, and nobody who does not ask for SO_REUSEPORT gets it as long as it is held.
"""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from services.common.errors import StartError
from services.common.settings import ProcessSettings, split_host_port

Settings = TypeVar("Settings", bound=ProcessSettings)
# Of a name's addresses one may be of a kind that this host does not have, as gRPC passes over it.
_NOT_HERE = frozenset((errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))
_ANY = frozenset(("0.0.0.0", "::"))


@contextmanager
def reserved(settings: Settings, names: Sequence[str]) -> Iterator[Settings]:
    """While the ports of these settings are held: the settings to listen with, in any number of processes.

    A port 0 is one that was free; a setting that is None stays so. Where the operator shares the ports with other
    instances (`share_port`) they may be in use. Raises StartError for one that is taken.
    """
    with ExitStack() as held:
        found: dict[str, object] = {"share_port": True}
        for name in names:
            listen_on = getattr(settings, name)
            if listen_on is not None:
                found[name] = _reserve(listen_on, held, alone=not settings.share_port)
        yield settings.model_copy(update=found)


def _reserve(listen_on: str, held: ExitStack, *, alone: bool) -> str:
    host, port = split_host_port(listen_on)
    bound = False
    try:
        for family, address in _addresses(host, port):
            try:
                port = _hold(family, (address, port), held, alone=alone)
                bound = True
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
    except OSError as error:
        raise _taken(listen_on) from error
    if not bound:
        raise _taken(listen_on)
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _taken(listen_on: str) -> StartError:
    return StartError(f"cannot listen on {listen_on}: the port is taken, or the address is not of this host")


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    if host in _ANY:  # as gRPC has it: of both kinds together, where there are both
        return [(socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, str(address[0])) for family, *_, address in found))


def _hold(family: socket.AddressFamily, address: tuple[str, int], held: ExitStack, *, alone: bool) -> int:
    """Bind a socket that does not listen, so that it gets no connection. Answers the port. Raises OSError."""
    with ExitStack() as briefly:
        if alone:
            first = _socket(family, socket.SO_REUSEADDR, briefly)
            first.bind(address)
            first.listen(1)  # what only one may do, whoever else has bound the port at the same moment
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            address = address[0], first.getsockname()[1]
        bound = _socket(family, socket.SO_REUSEPORT, held)
        # While it is bound, for what an earlier run has left in TIME_WAIT; then nobody else gets in by that.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return int(bound.getsockname()[1])


def _socket(family: socket.AddressFamily, option: int, held: ExitStack) -> socket.socket:
    made = held.enter_context(socket.socket(family))
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, option, 1)
    return made
