"""Exhaustive searches over small cases: no order of the steps loses anything. The larger ones are a campaign's."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.storage.tests.model.cases import CASES, Case, search
from services.storage.tests.model.world import Node, two_nodes

# Some searches have more steps than anybody waits for.
_LIMIT = 20_000
IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with two_nodes(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("case", [case for case in CASES if IS_CAMPAIGN or not case.deep], ids=lambda case: case.name)
async def test_no_order_of_steps_loses_anything(urls: DatabaseUrls, nodes: dict[str, Node], case: Case) -> None:
    done = await search(case, urls, nodes, limit=_LIMIT)
    assert done.ends > 0
    if done.steps == _LIMIT:
        pytest.skip(f"the first {_LIMIT} steps of this case are clean; it has more")
