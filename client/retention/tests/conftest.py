from collections.abc import Iterator

import pytest

from client.account.tests.an_auth import Office, an_office
from client.tests.tls import an_authority


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with an_office(an_authority(), tmp_path_factory.mktemp("office")) as office:
        yield office
