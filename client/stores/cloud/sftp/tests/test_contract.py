import pytest

from client.stores.cloud import CloudStore
from client.stores.tests.contract import StoreContract


@pytest.mark.needs("sshd")
class TestOnSftp(StoreContract):
    condemned_at_once = 300

    @pytest.fixture
    def store(self, sftp_store: CloudStore) -> CloudStore:
        return sftp_store
