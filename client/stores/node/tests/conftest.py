from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.stores.node.tests.a_cluster import Clock, Cluster
from client.stores.node.tests.a_node import Bucket, Node
from client.tests.servers import serving
from client.tests.tls import Authority, an_authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return an_authority()


@pytest.fixture
def cluster(authority: Authority) -> Iterator[Cluster]:
    bucket = Bucket(tokens={"first", "good"})
    nodes = [Node(bucket), Node(bucket)]
    with ExitStack() as last:
        endpoints = [last.enter_context(serving(authority, node.add_to)) for node in nodes]
        yield Cluster(authority, nodes, endpoints, Clock(), Ed25519PrivateKey.generate(), last)
