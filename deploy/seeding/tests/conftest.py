"""A storage node for the tests of a module, reached as an operator reaches it."""

from collections.abc import Iterator

import grpc
import pytest

from deploy.local.cluster import Cluster
from deploy.seeding.tests.buckets import Nodes
from deploy.tests.stops.conftest import a_database, a_migrated_database, databases, node
from deploy.tests.stops.places import RunningNode
from services.common.rpc import CHANNEL_OPTIONS
from services.common.testing.server import Certificates

__all__ = ["a_database", "a_migrated_database", "databases", "node"]


@pytest.fixture(scope="module")
def nodes(node: RunningNode, installation: Certificates) -> Iterator[Nodes]:
    """Two, of which the first is down."""
    certificate, key = installation.certificate("operator", "local")
    credentials = grpc.ssl_channel_credentials(installation.ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
    endpoint = node.cluster.settings["a"].internal_endpoint
    with (
        grpc.secure_channel("localhost:1", credentials, CHANNEL_OPTIONS) as down,
        grpc.secure_channel(endpoint, credentials, CHANNEL_OPTIONS) as channel,
    ):
        yield Nodes(node, Cluster({"0": down, "a": channel}))
