"""Two clusters for each test, on databases of its own module."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.common.testing.server import Certificates
from services.storage.regions.tests.two_clusters import Regions
from services.storage.tests.cluster import Cluster


@pytest.fixture
def regions(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path: Path,
    a_free_port: Callable[[], int],
) -> Regions:
    """Two clusters that know the same token key; neither is up."""
    clusters = []
    for name, node in (("here", "a"), ("there", "x")):
        folder = tmp_path / name
        folder.mkdir()
        cluster = Cluster(a_database("storage"), installation, folder, a_free_port)
        cluster.node(node, cluster_name=name, region_poll_seconds=0.1)
        clusters.append(cluster)
    here, there = clusters
    there.token_key = here.token_key
    public = here.folder / "token-keys" / "auth.pem"
    (there.folder / "token-keys" / "auth.pem").write_bytes(public.read_bytes())
    return Regions(here, there)
