import pytest

from client.stores.cloud import CloudStore
from client.stores.tests.contract import StoreContract


class TestOnS3(StoreContract):
    condemned_at_once = 300

    @pytest.fixture
    def store(self, s3_store: CloudStore) -> CloudStore:
        return s3_store


@pytest.mark.needs("rclone")
class TestOnWebdav(StoreContract):
    condemned_at_once = 300

    @pytest.fixture
    def store(self, webdav_store: CloudStore) -> CloudStore:
        return webdav_store
