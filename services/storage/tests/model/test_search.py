"""Exhaustive searches over small cases."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.provision import DatabaseUrls
from services.storage.tests.model.cases import CASES, Case, search
from services.storage.tests.model.world import Node, two_nodes


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with two_nodes(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_no_order_of_steps_loses_anything(urls: DatabaseUrls, nodes: dict[str, Node], case: Case) -> None:
    t = time.process_time()
    done = await search(case, urls, nodes)
    print(case.name, done.steps, len(done._seen), done.ends, time.process_time() - t)
