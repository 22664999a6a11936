from collections.abc import Iterator
from pathlib import Path

import pytest

from client.account.tests.an_auth import Office, an_office
from client.tests.tls import Authority, an_authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return an_authority()


@pytest.fixture
def office(authority: Authority, tmp_path: Path) -> Iterator[Office]:
    with an_office(authority, tmp_path) as office:
        yield office
