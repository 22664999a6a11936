"""The contract on emulators, for `make campaign-clouds`: no test of every run, for they come from other registries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore, Location
from client.stores.tests.contract import StoreContract
from clouds.testing.emulators import Emulator


class TestOnAnEmulator(StoreContract):
    condemned_at_once = 300

    @pytest.fixture
    def store(self, emulator: Emulator, tmp_path: Path) -> Iterator[CloudStore]:
        location = Location.of_url(emulator.address(f"some/{tmp_path.name}"))
        store = CloudStore(location.opened_by(emulator.key or None, emulator.secret))
        yield store
        store.close()
