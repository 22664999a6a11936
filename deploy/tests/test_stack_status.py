"""What `oort stack status` says of nodes that answer, and are not well."""

import os
from pathlib import Path

import pytest
from oort.storage.v1 import buckets_pb2
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from deploy.local import stack
from deploy.local.folder import Service, StackFolder
from deploy.local.processes import ProcessId


def test_what_is_away_and_who_is_silent_is_said_beside_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    with folder.held():
        state = folder.load()
        for name in ("node-a", "node-b", "node-c", "node-d"):
            state.services[name] = Service(name, "storage", process=ProcessId.of(os.getpid()))
        folder.save(state)
    disk = buckets_pb2.Disk(id="D1", kind="disk", place="/srv/disk1", there=True)
    away = [buckets_pb2.Disk(id="D2", kind="disk", place="/srv/disk2"), buckets_pb2.Disk(kind="s3", place="s3:there")]
    hangs = buckets_pb2.Disk(id="D3", kind="disk", place="/srv/nfs", there=True, silent_seconds=42)
    told = buckets_pb2.DescribeClusterResponse(
        nodes=[
            buckets_pb2.Node(id="node-a", state="serving", live=True, disks=[disk]),
            buckets_pb2.Node(id="node-b", state="serving", live=True, disks=[disk, *away]),
            buckets_pb2.Node(id="node-c", state="draining", disks=[hangs, *away]),
            buckets_pb2.Node(id="node-d", state="serving", live=True, disks=[hangs]),
        ]
    )
    monkeypatch.setattr(stack, "_is_healthy", lambda *_: True)
    monkeypatch.setattr(stack, "_describe", lambda *_: told)
    said = CliRunner().invoke(app, ["stack", "status", "--data", str(folder.path)]).stdout.splitlines()
    states = {line[:10].strip(): line.split("  ")[-1].strip() for line in said[:4]}
    assert states == {
        "node-a": "healthy",
        "node-b": "healthy, but for what is away",
        "node-c": "answers, but is silent",
        "node-d": "healthy, but for a disk that does not answer",
    }
    assert said[4:-2] == [
        "node-c is silent: it does not say that it lives.",
        "node-b: the disk D2 in /srv/disk2 is away.",
        "node-b: the store s3:there is away.",
        "node-c: the disk D3 in /srv/nfs does not answer for 42 s.",
        "node-d: the disk D3 in /srv/nfs does not answer for 42 s.",
    ]
    assert stack.status(folder.path).to_json()["nodes"]["node-b"]["away"] == [
        "the disk D2 in /srv/disk2",
        "the store s3:there",
    ]
    monkeypatch.setattr(stack, "_is_healthy", lambda service, _: service.name != "node-d")
    said = CliRunner().invoke(app, ["stack", "status", "--data", str(folder.path)]).stdout.splitlines()
    assert [line for line in said if "for 42 s" in line] == [
        "node-c: the disk D3 in /srv/nfs does not answer for 42 s."
    ], "what a node said before it was killed is over"
    monkeypatch.setattr(stack, "_describe", lambda *_: None)
    said = CliRunner().invoke(app, ["stack", "status", "--data", str(folder.path)]).stdout.splitlines()
    assert not [line for line in said if "silent" in line or "away" in line]
