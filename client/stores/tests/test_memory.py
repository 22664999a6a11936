import pytest

from client.stores.tests.contract import StoreContract
from client.stores.tests.memory import MemoryStore


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
