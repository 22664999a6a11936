"""What bodies need of Azure and Google, on their emulators, for `make campaign-clouds`."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from clouds.testing.emulators import azure, google
from services.storage.tests.kept import InStore
from services.storage.volumes.remote.tests.test_containers import *  # noqa: F403 - the same tests

pytestmark = [
    pytest.mark.usefixtures("emulator"),
    pytest.mark.parametrize("emulator", [azure, google], indirect=True, ids=["azure", "google"], scope="session"),
    pytest.mark.parametrize("kept", ["emulator"], indirect=True),
]
MORE_THAN_A_PAGE = 1_100  # of Google's; one of Azure's has 5,000, which takes its emulator minutes


def test_a_long_list_has_each_object_once(kept: InStore) -> None:
    paths = [f"data/{number:05}" for number in range(MORE_THAN_A_PAGE)]
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda path: kept.store.create(path, b"body"), paths))
    listed = kept.store.list("data/")
    assert sorted(entry.path for entry in listed) == paths
    assert {entry.size for entry in listed} == {4}
    assert kept.store.delete_all([*paths, "data/never"]) == {}
    assert kept.store.list("data/") == []
