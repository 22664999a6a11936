"""The contract on stores that only emulators can be had of, and on a second server of S3: `make campaign-clouds`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore, Location
from client.stores.tests.contract import StoreContract
from clouds.testing import emulators
from clouds.testing.emulators import Absent, Emulator

KEY, SECRET = "zqx-key-of-a-store-7420", "zqx-secret-of-a-store-7421"


@pytest.fixture(scope="module")
def azure(a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    try:
        with emulators.azure(tmp_path_factory.mktemp("azure"), a_free_port()) as emulator:
            yield emulator
    except Absent as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="module")
def google(a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    try:
        with emulators.google(tmp_path_factory.mktemp("google"), a_free_port()) as (emulator, _):
            yield emulator
    except Absent as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="module")
def s3(a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    try:
        with emulators.s3(tmp_path_factory.mktemp("s3"), a_free_port(), KEY, SECRET) as emulator:
            yield emulator
    except Absent as absent:
        pytest.skip(str(absent))


class _Contract(StoreContract):
    condemned_at_once = 300

    @pytest.fixture
    def location(self) -> Location:
        raise AssertionError("the class of a store gives this fixture")

    @pytest.fixture
    def store(self, location: Location) -> Iterator[CloudStore]:
        store = CloudStore(location)
        yield store
        store.close()


class TestOnAzure(_Contract):
    @pytest.fixture
    def location(self, azure: Emulator, tmp_path: Path) -> Location:
        address = f"azblob://{azure.container}/{tmp_path.name}?endpoint={azure.endpoint}"
        return Location.of_url(address).opened_by(azure.key, azure.secret)


class TestOnGoogle(_Contract):
    @pytest.fixture
    def location(self, google: Emulator, tmp_path: Path) -> Location:
        address = f"gcs://{google.container}/{tmp_path.name}?endpoint={google.endpoint}"
        return Location.of_url(address).opened_by(None, google.secret)


class TestOnS3OfRclone(_Contract):
    @pytest.fixture
    def location(self, s3: Emulator, tmp_path: Path) -> Location:
        return Location.of_s3(f"{s3.endpoint}/{s3.container}/{tmp_path.name}").opened_by(s3.key, s3.secret)
