"""What bodies need of Azure, Google and S3, on their emulators, for `make campaign-clouds`."""

from concurrent.futures import ThreadPoolExecutor

from services.storage.tests.kept import ON_EMULATORS, InStore
from services.storage.volumes.remote.tests.test_containers import *  # noqa: F403 - the same tests

pytestmark = ON_EMULATORS
MORE_THAN_A_PAGE = 1_100  # of Google's and S3's; one of Azure's has 5,000, which takes its emulator minutes


def test_a_long_list_has_each_object_once(kept: InStore) -> None:
    paths = [f"data/{number:05}" for number in range(MORE_THAN_A_PAGE)]
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda path: kept.store.create(path, b"body"), paths))
    listed = kept.store.list("data/")
    assert sorted(entry.path for entry in listed) == paths
    assert {entry.size for entry in listed} == {4}
    assert kept.store.delete_all([*paths, "data/never"]) == {}
    assert kept.store.list("data/") == []
