"""A cluster for each test, on a database of its own module."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.common.testing.server import Certificates
from services.storage.tests.cluster import Cluster


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine no call of a test is to be refused because another one had its bucket for a moment."""
    monkeypatch.setattr("services.storage.sessions.standing.PATIENCE_SECONDS", 60.0)


@pytest.fixture
def cluster(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path: Path,
    a_free_port: Callable[[], int],
) -> Cluster:
    return Cluster(a_database("storage"), installation, tmp_path, a_free_port)
