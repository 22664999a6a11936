"""Ports of stacks that their tests take down and up again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple

from deploy.local import roles
from deploy.local.folder import USUAL_NODES
from deploy.local.ports import PortReservations


@contextmanager
def usual_ports_reserved() -> Iterator[None]:
    """A stack made meanwhile gets ports that no other test's stack prefers, and so takes while this one is down."""
    with closing(PortReservations()) as reserved:
        usual = {port for instance in roles.instances(USUAL_NODES) for port in astuple(instance.ports)}
        for port in usual | {roles.POSTGRES_PORT, roles.REDIS_PORT}:
            reserved.take(port)
        yield
