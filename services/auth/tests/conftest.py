from collections.abc import Iterator

import pytest

from services.auth import storage
from services.auth.tests.kit import Ground
from services.common.testing.server import Certificates
from services.conftest import MakeDatabase


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """A storage cluster is not taken for silent while it shares its loop, and the machine, with all that is tested."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage, "DESCRIBE_SECONDS", 60.0)
        patched.setattr(storage, "SESSIONS_SECONDS", 60.0)
        yield


@pytest.fixture(scope="module")
def ground(a_database: MakeDatabase, redis_url: str, installation: Certificates) -> Ground:
    return Ground(a_database("auth"), redis_url, installation)
