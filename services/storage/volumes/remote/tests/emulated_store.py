"""What bodies need of S3, on SeaweedFS, for `make campaign-clouds`: calls of a store, for no node takes this one."""

import pytest

from clouds.testing.emulators import seaweedfs
from services.storage.volumes.remote.tests.emulated import test_a_long_list_has_each_object_once
from services.storage.volumes.remote.tests.test_containers import (  # the same tests
    kept,
    test_of_an_upload_that_breaks_off_nothing_is_seen,
    test_of_those_that_create_one_object_at_once_one_does,
)

__all__ = [
    "kept",
    "test_a_long_list_has_each_object_once",
    "test_of_an_upload_that_breaks_off_nothing_is_seen",
    "test_of_those_that_create_one_object_at_once_one_does",
]

pytestmark = [
    pytest.mark.usefixtures("emulator"),
    pytest.mark.parametrize("emulator", [seaweedfs], indirect=True, ids=["seaweedfs"], scope="session"),
    pytest.mark.parametrize("kept", ["emulator"], indirect=True),
]
