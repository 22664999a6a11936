"""What `oort node list` and `remove` say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from oort.storage.v1 import buckets_pb2, nodes_pb2
from typer.testing import CliRunner, Result

from client.errors import UsageError
from deploy.cli.__main__ import app
from deploy.local.cluster import Cluster

NODES = [
    buckets_pb2.Node(
        id="node-a",
        state="serving",
        live=True,
        buckets=2,
        missing_copies=3,
        missing_bytes=3000,
        disks=[
            buckets_pb2.Disk(id="D1", kind="disk", place="/srv/disk1", free_bytes=7, there=True),
            buckets_pb2.Disk(id="D2", kind="disk", place="/srv/disk2", silent_seconds=42),
        ],
    ),
    buckets_pb2.Node(
        id="node-b",
        state="draining",
        buckets=1,
        bytes=70_000,
        former_buckets=4,
        waits=["1 of its buckets: node-a is down"],
        last_seen=Timestamp(seconds=1_000_000_000),
        disks=[buckets_pb2.Disk(kind="s3", place="s3://container/b")],
    ),
]


class Nodes:
    """A cluster that answers what it is told to."""

    def __init__(self, removal: nodes_pb2.RemoveNodeResponse) -> None:
        self.removal = removal

    def describe(self, *, backlog: bool = False) -> buckets_pb2.DescribeClusterResponse:
        assert backlog
        return buckets_pb2.DescribeClusterResponse(nodes=NODES, short_buckets=2)

    def heartbeats(self) -> list[buckets_pb2.Node]:
        return NODES

    def node(self, node: str) -> buckets_pb2.Node:
        return next(one for one in NODES if one.id == node)

    def drain(self, node: str) -> buckets_pb2.Node:
        return self.node(node)

    def remove(self, _node: str, *, lost: bool, give_up: bool) -> nodes_pb2.RemoveNodeResponse:
        assert lost == give_up
        return self.removal


def run(monkeypatch: pytest.MonkeyPatch, removal: nodes_pb2.RemoveNodeResponse, *arguments: str) -> Result:
    @contextmanager
    def of_stack(_data: Path, _at: object) -> Iterator[Nodes]:
        yield Nodes(removal)

    monkeypatch.setattr(Cluster, "of_stack", of_stack)
    return CliRunner().invoke(app, ["node", *arguments, "--data", "/nowhere"])


def test_a_list_says_what_is_to_come_and_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "list")
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert listed.exit_code == 0
    assert rows[1] == ["node-a", "serving", "True", "0", "2", "0", "0", "3", "3000"]
    assert rows[2][:2] + rows[2][-1:] == ["node-b", "draining", "2001-09-09T01:46:40+00:00"]
    assert listed.stdout.splitlines()[3:] == [
        "node-b waits with 1 of its buckets: node-a is down.",
        "2 buckets on fewer nodes than copies are wanted: as soon as some with room are up, they are taken.",
    ]
    listed = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "list", "--json")
    assert [one["waits"] for one in json.loads(listed.stdout)] == [[], ["1 of its buckets: node-a is down"]]


def test_each_disk_and_store_is_listed_of_a_node_or_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "disks")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["node-a", "True", "D1", "disk", "True", "0", "7", "/srv/disk1"],
        ["node-a", "True", "D2", "disk", "False", "42", "0", "/srv/disk2"],
        ["node-b", "False", "s3", "False", "0", "0", "s3://container/b"],
    ]
    listed = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "disks", "node-b", "--json")
    assert json.loads(listed.stdout) == [
        {
            "node": "node-b",
            "up": False,
            "id": "",
            "kind": "s3",
            "there": False,
            "silent_seconds": 0,
            "free_bytes": 0,
            "place": "s3://container/b",
        }
    ]


def test_a_drain_says_at_once_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    drained = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "drain", "node-b")
    assert drained.stdout.splitlines() == [
        "node-b is drained of 1 bucket with 70,000 bytes: `oort node list` says how far that is.",
        "node-b waits with 1 of its buckets: node-a is down.",
    ]


def test_what_is_given_up_is_named_and_ends_with_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = nodes_pb2.RemoveNodeResponse(removed=True, given_up=30, names=[f"B data/{n}" for n in range(30)])
    removed = run(monkeypatch, removal, "remove", "node-b", "--lost", "--give-up", "--yes")
    assert removed.exit_code == 3
    assert removed.stdout.splitlines()[:2] == ["node-b is removed.", "Given up: data/0 of bucket B."]
    assert removed.stdout.splitlines()[-1] == "Given up: 30 objects in all; --json names 1,000."
    removed = run(monkeypatch, removal, "remove", "node-b", "--lost", "--give-up", "--yes", "--json")
    assert (removed.exit_code, len(json.loads(removed.stdout)["names"])) == (3, 30)
    removed = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "remove", "node-b")
    assert (removed.exit_code, "still being drained" in removed.stdout) == (0, True)


def test_a_lost_node_is_removed_only_by_whoever_has_been_told_what_it_holds_and_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = run(monkeypatch, nodes_pb2.RemoveNodeResponse(), "remove", "node-b", "--lost", "--give-up")
    assert isinstance(refused.exception, UsageError)
    assert refused.stderr.splitlines()[:2] == [
        "node-b is draining, holds 1 bucket with 70,000 bytes and files of 4 others.",
        "All its copies count as lost at once, and what no other node has whole is given up.",
    ]
    assert "give --yes to agree" in str(refused.exception)
