import pytest

from services.auth.tests.kit import Ground
from services.common.testing.server import Certificates
from services.conftest import MakeDatabase


@pytest.fixture(scope="module")
def ground(a_database: MakeDatabase, redis_url: str, installation: Certificates) -> Ground:
    return Ground(a_database("auth"), redis_url, installation)
