"""A storage node is drained in the middle of a backup, and taken out of use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.driver import Operator
from deploy.local.folder import StackFolder
from deploy.tests.end_to_end.conftest import a_device, a_stack
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.test_killed import events, start_backup
from deploy.tests.end_to_end.trees import MIB, incompressible
from deploy.tests.end_to_end.waiting import wait_for_copies, wait_until
from deploy.tests.here import AdministeredHere


@pytest.fixture
def three_nodes(tmp_path: Path) -> Iterator[Operator]:
    operator = AdministeredHere(tmp_path / "own-stack")
    with a_stack(operator, "--nodes", "3"):
        yield operator


@pytest.mark.long
def test_a_node_is_drained_during_a_backup_and_removed(three_nodes: Operator, tmp_path: Path) -> None:
    device = a_device(three_nodes, tmp_path / "home")
    data = ("--data", str(three_nodes.data))
    source = incompressible(tmp_path / "source/file", 256, seed=5).parent
    folder = StackFolder.find(three_nodes.data)
    bucket = device.recovery("main")["bucket"]
    node = ""
    with start_backup(device, "main", source) as process:
        for event in events(process):
            if not node and event["type"] == "progress" and event["uploaded_bytes"] > 48 * MIB:
                [node, _] = two_that_hold_it(three_nodes, folder)
                said = three_nodes.oort.ok("node", "drain", node, *data).stdout
                assert said.startswith(f"{node} is drained of 1 bucket ")
                assert three_nodes.oort.run("node", "remove", node, *data).code == 2
        assert process.stderr is not None
        refused = process.stderr.read()
    assert process.returncode == 0, refused
    assert node
    wait_until("the node is drained", lambda: not folder.holds_buckets(node))
    wait_for_copies(three_nodes)

    left = three_nodes.bucket_folders(bucket)
    assert len(left) == 2
    assert not any(folder.node(node) in one.parents for one in left)
    for one in left:
        Restic(one, device.recovery("main")["password"], "--no-lock").check()
    device.tool.ok("check", "--vault", "main", "--read-data")
    assert device.backup("main", source)["files_unmodified"] == 1
    assert f"{node} is removed" in three_nodes.oort.ok("node", "remove", node, *data).stdout
    listed = {one["id"]: one for one in three_nodes.oort.ok("node", "list", "--json", *data).json()}
    assert (listed[node]["state"], listed[node]["buckets"], listed[node]["copies_to_come"]) == ("removed", 0, 0)
    others = [name for name in listed if name != node]
    assert all(listed[name]["buckets"] == 1 and listed[name]["state"] == "serving" for name in others)
    told = three_nodes.oort.run("node", "drain", others[0], *data)
    assert (told.code, "Add a node" in told.stderr) == (2, True)


def two_that_hold_it(operator: Operator, folder: StackFolder) -> list[str]:
    """The nodes that hold the bucket; to the second of them copies come a moment later."""
    holding: list[str] = []

    nodes = list(operator.status()["nodes"])

    def both() -> bool:
        holding[:] = [name for name in nodes if folder.holds_buckets(name)]
        return len(holding) == 2

    wait_until("two nodes hold the bucket", both)
    return holding
