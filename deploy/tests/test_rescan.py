"""What `oort node rescan` says, and when it lets go of the vaults that it has entered."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oort.storage.v1 import buckets_pb2, rescans_pb2
from typer.testing import CliRunner

from client.errors import ServerUnreachable
from deploy.cli.__main__ import app
from deploy.local.cluster import Cluster

BUCKET = "00000000-0000-7000-8000-000000000001"


class Nodes:
    """Two nodes that answer what they are told to; None: not at all."""

    nodes = ("node-a", "node-b")

    def __init__(self, *answers: rescans_pb2.RescanResponse | None) -> None:
        self.answers = dict(zip(self.nodes, answers, strict=True))
        self.states = ["serving"] * len(answers)
        self.finished = 0

    def heartbeats(self) -> list[buckets_pb2.Node]:
        ids = ("one", "two", "three")[: len(self.states)]
        return [buckets_pb2.Node(id=one, state=state) for one, state in zip(ids, self.states, strict=True)]

    def rescan(self, node: str) -> Iterator[rescans_pb2.RescanResponse]:
        answer = self.answers[node]
        if answer is None:
            raise ServerUnreachable(server=node, reason="it is away")
        yield answer

    def finish_rescan(self) -> int:
        self.finished += 1
        return 1


def run(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    @contextmanager
    def of_stack(_data: Path, _at: object) -> Iterator[Nodes]:
        yield nodes

    monkeypatch.setattr(Cluster, "of_stack", of_stack)
    result = CliRunner().invoke(app, ["node", "rescan", *arguments, "--data", str(tmp_path)])
    return result.exit_code, result.stdout, result.stderr


WHOLE = rescans_pb2.RescanResponse(done=True, buckets=1, keys=2, with_keys=[BUCKET])


def of(node: str) -> rescans_pb2.RescanResponse:
    return rescans_pb2.RescanResponse(done=True, node_id=node)


FAILED = rescans_pb2.RescanResponse(done=True, buckets=1, failed=[f"{BUCKET} it cannot be read"])


def test_when_all_nodes_were_rescanned_the_vaults_are_let_go_and_their_keys_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = Nodes(WHOLE, rescans_pb2.RescanResponse(done=True))
    code, out, err = run(nodes, monkeypatch, tmp_path)
    assert (code, nodes.finished, err) == (0, 1, "")
    assert "Keys entered: 2" in out
    assert f"`backup-tool key list` at the vaults of {BUCKET}." in out


def test_a_vault_that_was_not_read_whole_is_named_and_none_is_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = Nodes(FAILED, WHOLE)
    code, out, err = run(nodes, monkeypatch, tmp_path)
    assert (code, nodes.finished) == (3, 0)
    assert f"Not read whole: bucket {BUCKET}: it cannot be read." in out
    assert "oort bucket release" in err
    _, out, _ = run(nodes, monkeypatch, tmp_path, "--json")
    assert [one["failed"] for one in json.loads(out)] == [[{"bucket": BUCKET, "reason": "it cannot be read"}], []]


@pytest.mark.parametrize("arguments", [("node-a",), ()])
def test_after_a_part_of_the_nodes_none_is_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    nodes = Nodes(WHOLE, None)
    code, _, err = run(nodes, monkeypatch, tmp_path, *arguments)
    assert (code == 0, nodes.finished) == (bool(arguments), 0)
    assert "oort bucket release" in err


@pytest.mark.parametrize(("third", "finished"), [("serving", 0), ("draining", 0), ("removed", 1), ("lost", 1)])
def test_of_another_cluster_all_nodes_that_it_knows_are_to_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, third: str, finished: int
) -> None:
    nodes = Nodes(of("one"), of("two"))
    nodes.states.append(third)
    _, _, err = run(nodes, monkeypatch, tmp_path, "--at", "node-a:1", "--at", "node-b:1")
    assert (nodes.finished, "oort bucket release" in err) == (finished, not finished)


def test_a_node_that_is_named_twice_stands_for_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nodes = Nodes(of("one"), of("one"))
    _, _, err = run(nodes, monkeypatch, tmp_path, "--at", "node-a:1", "--at", "10.0.0.1:1")
    assert (nodes.finished, "oort bucket release" in err) == (0, True)


def test_of_a_node_that_there_is_not_nothing_is_said_of_vaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, out, err = run(Nodes(WHOLE, WHOLE), monkeypatch, tmp_path, "node-z")
    assert (out, err) == ("", "")
