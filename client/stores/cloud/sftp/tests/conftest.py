from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore
from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.location import SftpLocation
from client.stores.cloud.sftp.tests.a_server import HASTY, AServer, a_server
from clouds.calls import Patience
from clouds.testing.ssh import SshServer


@pytest.fixture
def sftp_location(ssh_server: SshServer, tmp_path: Path) -> SftpLocation:
    location = SftpLocation.of_address(ssh_server.address(tmp_path / "served" / "vault"))
    return location.known_by(HostKey("ssh-ed25519", ssh_server.host_key)).opened_by(ssh_server.key, "")


@pytest.fixture
def sftp_store(sftp_location: SftpLocation) -> Iterator[CloudStore]:
    store = CloudStore(sftp_location)
    yield store
    store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    with a_server(folder) as server:
        yield server


@pytest.fixture
def opened() -> Iterator[Callable[..., CloudStore]]:
    stores: list[CloudStore] = []

    def open_store(location: SftpLocation, patience: Patience = HASTY) -> CloudStore:
        stores.append(CloudStore(location, patience))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
