"""What `oort node list` and `remove` say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from oort.storage.v1 import buckets_pb2, nodes_pb2
from typer.testing import CliRunner

from client.errors import UsageError
from deploy.cli.__main__ import app
from deploy.cli.nodes import remove
from deploy.local.cluster import Cluster

NODES = [
    buckets_pb2.Node(id="node-a", state="serving", live=True, buckets=2, missing_copies=3, missing_bytes=3000),
    buckets_pb2.Node(
        id="node-b",
        state="draining",
        buckets=1,
        former_buckets=1,
        waits=["1 of its buckets: node-a is down"],
        last_seen=Timestamp(seconds=1_000_000_000),
    ),
]


class Nodes:
    """A cluster that answers what it is told to."""

    def __init__(self, removal: nodes_pb2.RemoveNodeResponse) -> None:
        self.removal = removal

    def describe(self, *, backlog: bool = False) -> buckets_pb2.DescribeClusterResponse:
        assert backlog
        return buckets_pb2.DescribeClusterResponse(nodes=NODES)

    def remove(self, _node: str, *, lost: bool, give_up: bool) -> nodes_pb2.RemoveNodeResponse:
        assert lost == give_up
        return self.removal


def run(monkeypatch: pytest.MonkeyPatch, removal: nodes_pb2.RemoveNodeResponse, *arguments: str) -> tuple[int, str]:
    @contextmanager
    def of_stack(_data: Path) -> Iterator[Nodes]:
        yield Nodes(removal)

    monkeypatch.setattr(Cluster, "of_stack", of_stack)
    result = CliRunner().invoke(app, ["node", *arguments, "--data", "/nowhere"])
    return result.exit_code, result.stdout


def test_a_list_says_what_is_to_come_and_what_a_node_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[1] == ["node-a", "serving", "True", "0", "2", "0", "3", "3000"]
    assert rows[2][:2] + rows[2][-1:] == ["node-b", "draining", "2001-09-09T01:46:40+00:00"]
    assert out.splitlines()[3] == "node-b waits with 1 of its buckets: node-a is down."
    _, out = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "list", "--json")
    assert [one["waits"] for one in json.loads(out)] == [[], ["1 of its buckets: node-a is down"]]


def test_what_is_given_up_is_named_and_ends_with_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = nodes_pb2.RemoveNodeResponse(removed=True, given_up=30, names=[f"B data/{n}" for n in range(30)])
    code, out = run(monkeypatch, removal, "remove", "node-b", "--lost", "--give-up", "--yes")
    assert code == 3
    assert out.splitlines()[:2] == ["node-b is removed.", "Given up: data/0 of bucket B."]
    assert out.splitlines()[-1] == "Given up: 30 objects in all; --json names 1,000."
    code, out = run(monkeypatch, removal, "remove", "node-b", "--lost", "--give-up", "--yes", "--json")
    assert (code, len(json.loads(out)["names"])) == (3, 30)
    code, out = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "remove", "node-b")
    assert (code, "still being drained" in out) == (0, True)


def test_a_lost_node_is_removed_only_by_whoever_agrees() -> None:
    with pytest.raises(UsageError, match="give --yes to agree"):
        remove("node-b", Path("/nowhere"), lost=True, give_up=True)
