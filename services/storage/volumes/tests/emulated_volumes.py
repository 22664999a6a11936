"""What a node expects of a store, on emulators of Azure, Google and S3, for `make campaign-clouds`."""

from services.storage.tests.kept import ON_EMULATORS
from services.storage.volumes.tests.test_volumes import *  # noqa: F403 - the same tests

pytestmark = ON_EMULATORS
