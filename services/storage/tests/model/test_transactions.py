"""Every call is one step: two of them at once, on real connections with real commits, do what one after the other does.

The searches take each call for one step of its client. Here one call is stopped after each of its statements and
another one goes as far as it can; their answers and the catalogue must be those of one of the two orders.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import combinations_with_replacement, count
from pathlib import Path

import psycopg
import pytest

from services.common.database import Database
from services.common.errors import ServiceError
from services.common.provision import DatabaseUrls
from services.storage.tests.model.catalogue import Catalogue, clear
from services.storage.tests.model.scene import ACTS, Act, Scene, set_up
from services.storage.tests.model.turns import TurnDatabase, Turns
from services.storage.tests.model.world import a_world, two_nodes

IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"
Outcome = tuple[str, str, str]
# Those of which each makes a difference to the other. The campaign has all pairs.
PAIRS = [
    ("reserve of a free pack", "condemn of a free pack"),
    ("a free pack is put again", "condemn of a free pack"),
    ("reserve of a condemned pack", "the reaper decides"),
    ("a condemned pack is put again", "the reaper decides"),
    ("an index file is put again", "condemn of an index file"),
    ("a pack that is being removed is entered", "the reaper forgets"),
    ("commit", "the backup ends"),
    ("commit", "reserve of a free pack"),
    ("the backup ends", "mark"),
    ("silent sessions are ended", "a parent is removed"),
    ("silent sessions are ended", "the silent session beats"),
    ("a backup opens", "a snapshot is removed"),
    ("an adoption opens", "the reaper decides"),
    ("the retention ends", "condemn of a free pack"),
    ("the retention ends", "a retention opens"),
]


class NotOneStep(AssertionError):
    """Two calls did what they would not have done one after the other."""


@asynccontextmanager
async def a_stage(urls: DatabaseUrls, folder: Path, *, is_marked: bool) -> AsyncIterator["Stage"]:
    db = await Database.open(urls.app, urls.worker, wait_seconds=60)
    try:
        async with await psycopg.AsyncConnection.connect(urls.worker, autocommit=True) as watch:
            await clear(watch)
            with two_nodes(folder) as nodes:
                world = a_world(TurnDatabase(db), {"a": nodes["a"]})
                stage = Stage(await set_up(world, is_marked=is_marked), Turns(watch), Catalogue(watch))
                await stage.catalogue.keep()
                yield stage
    finally:
        await db.close()


class Stage:
    """Where two calls meet."""

    def __init__(self, scene: Scene, turns: Turns, catalogue: Catalogue) -> None:
        self._scene = scene
        self._turns = turns
        self.catalogue = catalogue

    async def is_one_step(self, first: str, second: str) -> None:
        """Raises NotOneStep."""
        outcomes: dict[str, Outcome] = {}
        in_order: set[Outcome] = set()
        for one, other in ((first, second), (second, first)):
            for steps in count():
                found, is_in_order = await self._meet(ACTS[one], ACTS[other], steps)
                if first != one:
                    found = (found[1], found[0], found[2])
                outcomes[f"'{one}' is stopped after {steps} steps"] = found
                if is_in_order:
                    in_order.add(found)
                    break
        for how, found in outcomes.items():
            if found not in in_order:
                told = "\n".join(map(str, (f"{how}, '{first}' and '{second}' do", found, "and in order", *in_order)))
                raise NotOneStep(told)

    async def _meet(self, one: Act, other: Act, steps: int) -> tuple[Outcome, bool]:
        """What both answer and leave, and whether `one` was done when `other` began."""
        await self.catalogue.put_back()
        stopped = await self._turns.begin(_answer(one, self._scene))
        for _ in range(steps):
            if stopped.can_go_on:
                await self._turns.go_on(stopped)
        is_in_order = stopped.task.done()
        goes = await self._turns.begin(_answer(other, self._scene))
        await self._turns.go_as_far_as_it_can(goes)
        await self._turns.finish(stopped, goes)
        return (stopped.task.result(), goes.task.result(), await self.catalogue.look()), is_in_order


async def _answer(act: Act, scene: Scene) -> str:
    try:
        return str(await act(scene))
    except ServiceError as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


def meet(urls: DatabaseUrls, folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Let the calls of each pair meet, after the mark, and a mark with those that it meets. Raises NotOneStep."""

    async def run() -> None:
        for is_marked in (True, False):
            async with a_stage(urls, folder, is_marked=is_marked) as stage:
                for pair in pairs:
                    if ("mark" in pair) != is_marked:
                        await stage.is_one_step(*pair)

    asyncio.run(run())


@pytest.mark.case(number=13)
def test_two_calls_at_once_do_what_they_do_one_after_the_other(urls: DatabaseUrls, tmp_path: Path) -> None:
    meet(urls, tmp_path, list(combinations_with_replacement(ACTS, 2)) if IS_CAMPAIGN else PAIRS)
