"""Two storage nodes in memory, and a store on them."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.errors import (
    ServerUnreachable,
)
from client.rpc import Pacing
from client.stores.node import NodeStore, VaultAccess
from client.stores.node.tests.a_node import Node
from client.tests.tls import Authority
from domain.names import ObjectKind, ObjectName
from domain.sessions import Scope

BUCKET = UUID(int=5)


UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


@dataclass
class Clock:
    """Runs only while somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    jitter: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pacing(self) -> Pacing:
        return Pacing(120.0, monotonic=lambda: self.now, sleep=self.sleep, jitter=lambda: self.jitter)


@dataclass
class Cluster:
    """Two nodes and a store on them; the first is asked first."""

    authority: Authority
    nodes: list[Node]
    endpoints: list[str]
    clock: Clock
    device_key: Ed25519PrivateKey
    last: ExitStack
    issued: list[str] = field(default_factory=list)
    asked: list[tuple[Scope, ...]] = field(default_factory=list)
    auth_is_down: int = 0
    granted: frozenset[str] = frozenset(Scope)

    def issue(self, scopes: Sequence[Scope]) -> VaultAccess:
        self.asked.append(tuple(scopes))
        if self.auth_is_down:
            self.auth_is_down -= 1
            raise ServerUnreachable(server="auth", reason="it is down")
        self.issued.append("good" if self.issued else "first")
        return VaultAccess(self.issued[-1], tuple(self.endpoints), self.granted)

    def store(self, **others: object) -> NodeStore:
        arguments: dict[str, object] = {
            "bucket": BUCKET,
            "place": "The storage",
            "source": self.issue,
            "device_key": self.device_key,
            "ca_pem": self.authority.ca,
            "ca_file": "ca.pem",
            "pacing": self.clock.pacing(),
            **others,
        }
        store = NodeStore(**arguments)  # type: ignore[arg-type]
        self.last.callback(store.close)
        return store


def a_pack(size: int = 1000) -> tuple[ObjectName, bytes]:
    body = os.urandom(size)
    return ObjectName.of(ObjectKind.PACK, body), body
