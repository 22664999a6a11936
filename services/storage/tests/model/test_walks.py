"""Random walks (walks.py): nothing is lost. `make campaign-sessions` walks further."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from services.common.database import Database
from services.common.provision import DatabaseUrls
from services.storage.tests.model.walks import Crowd, Walk
from services.storage.tests.model.world import two_nodes

pytestmark = [pytest.mark.case(number=number) for number in (14, 15)]
IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def given(urls: DatabaseUrls, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What every walk needs."""
    with two_nodes(tmp_path) as nodes, asyncio.Runner() as runner:
        yield {"urls": urls, "disks": nodes, "runner": runner}


@contextmanager
def connections(urls: DatabaseUrls, runner: asyncio.Runner) -> Iterator[dict[str, Any]]:
    """What the calls of a crowd need besides."""
    # More than there can be calls, each of which has a transaction open.
    db = runner.run(Database.open(urls.app, urls.worker, connections=32, wait_seconds=60))
    watch = runner.run(psycopg.AsyncConnection.connect(urls.worker, autocommit=True))
    try:
        yield {"db": db, "watch": watch}
    finally:
        runner.run(watch.close())
        runner.run(db.close())


def walks(walk: type[Walk], count: int, steps: int) -> None:
    run_state_machine_as_test(
        walk,
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_lost_whatever_devices_nodes_and_retentions_do(given: dict[str, Any]) -> None:
    walks(type("Walk", (Walk,), given), *((200, 80) if IS_CAMPAIGN else (14, 45)))


def test_nothing_is_lost_when_their_calls_are_on_their_way_at_once(given: dict[str, Any]) -> None:
    with connections(given["urls"], given["runner"]) as others:
        walks(type("Crowd", (Crowd,), given | others), *((60, 160) if IS_CAMPAIGN else (6, 80)))
