"""Searches over small cases: no order of the steps loses anything. `make campaign-sessions` goes further."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.storage.tests.model.cases import CASES, Case, search
from services.storage.tests.model.world import Node, two_nodes

IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with two_nodes(tmp_path) as opened:
        yield opened


def named(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=[pytest.mark.case(number=number) for number in case.numbers])


@pytest.mark.parametrize("case", [named(case) for case in CASES])
async def test_no_order_of_steps_loses_anything(urls: DatabaseUrls, nodes: dict[str, Node], case: Case) -> None:
    switches = case.switches[IS_CAMPAIGN]
    done = await search(case, urls, nodes, switches=switches, rest=IS_CAMPAIGN, everyone=IS_CAMPAIGN)
    assert done.steps > 0
