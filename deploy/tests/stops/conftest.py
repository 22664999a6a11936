"""A storage node for the tests of a module, and folders beside it."""

from collections.abc import Callable, Iterator

import pytest

from deploy.tests.stops.places import Folders, RunningNode, StoppingPlace, a_node
from services.common.provision import DatabaseUrls
from services.common.testing.server import Certificates
from services.conftest import a_database, a_migrated_database, databases
from services.storage.tests.cluster import Cluster

__all__ = ["a_database", "a_migrated_database", "databases"]


@pytest.fixture(scope="module")
def node(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
    a_free_port: Callable[[], int],
) -> Iterator[RunningNode]:
    cluster = Cluster(a_database("storage"), installation, tmp_path_factory.mktemp("node"), a_free_port)
    with a_node(cluster) as node:
        yield node


@pytest.fixture(scope="module", params=["node", "folder"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoppingPlace:
    if request.param == "node":
        node: RunningNode = request.getfixturevalue("node")
        return node
    return Folders(tmp_path_factory.mktemp("folders"))
