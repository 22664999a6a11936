"""What a node expects of a store, on emulators of Azure and Google, for `make campaign-clouds`."""

import pytest

from clouds.testing.emulators import azure, google
from services.storage.volumes.tests.test_volumes import *  # noqa: F403 - the same tests

pytestmark = [
    pytest.mark.usefixtures("emulator"),
    pytest.mark.parametrize("emulator", [azure, google], indirect=True, ids=["azure", "google"], scope="session"),
    pytest.mark.parametrize("kept", ["emulator"], indirect=True),
]
