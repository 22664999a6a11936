"""A storage node for the tests of a module, reached as an operator reaches it."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from deploy.local.cluster import Cluster
from deploy.local.ports import free_port
from deploy.seeding.tests.buckets import Nodes
from deploy.tests.stops.places import RunningNode, a_node
from services.common.provision import DatabaseUrls
from services.common.rpc import CHANNEL_OPTIONS
from services.common.testing.server import Certificates
from services.conftest import a_database, a_migrated_database, databases
from services.storage.tests.cluster import Cluster as ClusterOfTests

__all__ = ["a_database", "a_migrated_database", "databases"]


@pytest.fixture(scope="module")
def running(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningNode]:
    cluster = ClusterOfTests(a_database("storage"), installation, tmp_path_factory.mktemp("node"), free_port)
    with a_node(cluster) as node:
        yield node


@pytest.fixture(scope="module")
def nodes(running: RunningNode, installation: Certificates) -> Iterator[Nodes]:
    """Two, of which the first is down."""
    certificate, key = installation.certificate("operator", "local")
    credentials = grpc.ssl_channel_credentials(installation.ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
    endpoint = running.cluster.settings["a"].internal_endpoint
    with (
        grpc.secure_channel("localhost:1", credentials, CHANNEL_OPTIONS) as down,
        grpc.secure_channel(endpoint, credentials, CHANNEL_OPTIONS) as channel,
    ):
        yield Nodes(running, Cluster({"0": down, "a": channel}))
