import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore, Location

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
    folder = tmp_path_factory.mktemp("webdav")
    address = f"127.0.0.1:{a_free_port()}"
    command = ["rclone", "serve", "webdav", "--addr", address, "--user", KEY, "--pass", SECRET, str(folder)]
    environment = os.environ | {"RCLONE_CONFIG": str(tmp_path_factory.mktemp("rclone") / "config")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(address, server)
            yield address
        finally:
            server.terminate()


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    host, _, port = address.partition(":")
    while True:
        assert server.poll() is None, "the server has ended"
        with suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port))).close()
            return


@pytest.fixture
def webdav_store(webdav: str, tmp_path: Path) -> Iterator[CloudStore]:
    location = Location.of_url(f"webdav+http://{webdav}/{tmp_path.name}").opened_by(KEY, SECRET)
    store = CloudStore(location)
    yield store
    store.close()
