from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore, Location
from clouds.testing.webdav import a_webdav_server

KEY, SECRET = "AKIDEXAMPLE", "zqx-secret-of-a-store-7421"


@pytest.fixture
def s3_location(s3_bucket: str) -> Location:
    return Location.of_s3(f"{s3_bucket}/some/where").opened_by(KEY, SECRET)


@pytest.fixture
def s3_store(s3_location: Location) -> Iterator[CloudStore]:
    store = CloudStore(s3_location)
    yield store
    store.close()


@pytest.fixture(scope="module")
def webdav(a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of WebDAV, as host:port."""
    with a_webdav_server(tmp_path_factory.mktemp("webdav"), a_free_port(), KEY, SECRET) as address:
        yield address


@pytest.fixture
def webdav_store(webdav: str, tmp_path: Path) -> Iterator[CloudStore]:
    location = Location.of_url(f"webdav+http://{webdav}/{tmp_path.name}").opened_by(KEY, SECRET)
    store = CloudStore(location)
    yield store
    store.close()
