from collections.abc import Iterator
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore
from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.location import SftpLocation
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
