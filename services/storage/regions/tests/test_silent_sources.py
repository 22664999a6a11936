"""A cluster of which no node answers takes nobody's time for long."""

import asyncio
import socket
from typing import Any
from uuid import uuid4

import pytest

from services.storage.peers import Peers
from services.storage.regions import source
from services.storage.regions.source import Source
from services.storage.regions.tests.two_clusters import Regions, full


async def test_a_cluster_that_answers_nothing_is_said_to_be_silent_after_one_look_however_many_nodes_it_has(
    regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with regions.there.up("x"):
        async with regions.here.up("a"):
            claims = full(await regions.here.bucket("a"))
            await regions.complete(claims)
        await regions.wait(claims.bucket, lambda one: one.problem != "")
        monkeypatch.setattr(source, "_REACH_SECONDS", 1.0)
        # Connections come to stand, and nobody answers.
        with socket.create_server(("0.0.0.0", 0)) as silent:
            nodes = [f"127.0.0.{number}:{silent.getsockname()[1]}" for number in range(1, 21)]
            await regions.there.change("update follows set endpoints = %s, source_endpoints = '{}'", nodes)
            await regions.wait(claims.bucket, lambda one: "none of 20 nodes answers" in one.problem)


@pytest.fixture
def asked() -> list[str]:
    return []


async def test_while_no_node_answers_more_are_asked_at_once(asked: list[str]) -> None:
    async def ask(endpoint: str) -> str:
        asked.append(endpoint)
        if endpoint != "g":
            await asyncio.Event().wait()
        return f"{endpoint} answers"

    async for endpoint, answer in source._ask_ever_more("abcdefgh", ask, lambda: 0.0, lambda more: 2 * more):
        assert (endpoint, await answer) == ("g", "g answers")
        break
    assert sorted(asked) == list("abcdefg")


async def test_while_nodes_refuse_at_once_one_is_asked_after_the_other(asked: list[str]) -> None:
    async def ask(endpoint: str) -> str:
        asked.append(endpoint)
        return endpoint

    async for endpoint, _ in source._ask_ever_more("abc", ask, lambda: 3600.0, lambda more: 2 * more):
        if endpoint == "b":
            break
    assert asked == ["a", "b"]


async def test_while_those_that_are_reached_count_a_bucket_one_more_is_asked_at_a_time(
    regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = Peers(regions.here.settings["a"])
    steps: list[int] = []
    ask_ever_more = source._ask_ever_more

    def noted(endpoints: Any, ask: Any, pause: Any, step: Any) -> Any:
        async def asking(endpoint: str) -> Any:
            steps.append(step(4))
            try:
                return await ask(endpoint)
            finally:
                steps.append(step(4))

        return ask_ever_more(endpoints, asking, pause, step)

    monkeypatch.setattr(source, "_ask_ever_more", noted)
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        reader = Source(peers, claims.bucket, [regions.here.settings["a"].internal_endpoint], seconds=60)
        await reader.look("there", (), 0)
    await peers.close()
    assert steps == [8, 1]


async def test_a_node_more_is_asked_only_while_that_may_help(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = Peers(regions.here.settings["a"])
    reader = Source(peers, uuid4(), ["localhost:1", "localhost:2"], seconds=60)
    assert list(reader._in_turn()) == ["localhost:1", "localhost:2"]
    monkeypatch.setattr(source, "_PATIENCE_SECONDS", 0.0)
    assert list(reader._in_turn()) == ["localhost:1"]
