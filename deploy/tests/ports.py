"""Ports of stacks that their tests take down and up again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import count

from deploy.local import roles
from deploy.local.folder import USUAL_NODES, Service, StackFolder
from deploy.local.ports import PortReservations

# Above the usual ports of stacks, and below those that are chosen by chance.
_FIRSTS = range(10_000, 16_384, 32)


@contextmanager
def own_ports(folder: StackFolder) -> Iterator[None]:
    """A stack that is made in this folder meanwhile has ports that nobody else chooses, also while it is down."""
    with closing(PortReservations()) as reserved:
        first = next(port for port in _FIRSTS if reserved.take(port) == port)
        ports = count(first + 1)
        state = folder.load()
        for instance in roles.instances(USUAL_NODES):
            usual = asdict(instance.ports)
            endpoints = {kind: roles.endpoint(next(ports)) for kind in usual if usual[kind]}
            state.services[instance.name] = Service(instance.name, instance.role, None, **endpoints)
        for name in ("postgres", "redis"):
            state.services[name] = Service(name, name, None, roles.endpoint(next(ports)))
        folder.save(state)
        yield
