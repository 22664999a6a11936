"""A stack for each xdist worker, shared by the tests that leave it as it was: a start takes a dozen seconds."""

from collections.abc import Iterator

import pytest

from deploy.driver import Operator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """A running stack that no test stops or harms."""
    operator = Operator(tmp_path_factory.mktemp("shared") / "stack")
    operator.up()
    yield operator
    operator.down()
