"""A stack for each xdist worker, shared by the tests that leave it as it was: a start takes a dozen seconds."""

from collections.abc import Iterator

import pytest

from deploy.driver import Operator
from deploy.local.folder import StackFolder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """A running stack that no test stops, and where each harms its own vaults alone.

    Of its two nodes one has two workers: nobody is to notice.
    """
    operator = Operator(tmp_path_factory.mktemp("shared") / "stack")
    settings = StackFolder.create(operator.data).settings_file("node-a")
    settings.parent.mkdir()
    settings.write_text("OORT_WORKERS=2\n")
    operator.up()
    yield operator
    operator.down()
