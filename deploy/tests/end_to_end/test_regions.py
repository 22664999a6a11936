"""A vault in two regions: the first one burns and comes back, or is moved away from while it is in use."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.stores.node import store
from deploy.driver import Operator
from deploy.local.folder import StackFolder
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.second_region import NAME, NODE, SecondRegion, a_second_region
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.end_to_end.waiting import PATIENCE_SECONDS

_FOLLOWS = 3  # `oort bucket status` ends so while the other cluster does not answer


@pytest.mark.long
def test_a_vault_moves_to_another_region_and_others_are_used_from_there_after_the_first_one_burnt(
    own_stack: Operator, tmp_path: Path, a_free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test, since each would start a stack and a second region."""
    for name in ("moved", "burnt"):
        (tmp_path / name).mkdir()
    with a_second_region(own_stack, tmp_path / "far", a_free_port) as far:
        a_vault_moves_to_another_cluster_with_all_that_was_stored(own_stack, tmp_path / "moved", far)
        a_vault_is_used_from_the_other_region_after_the_first_one_burnt(own_stack, tmp_path / "burnt", far, monkeypatch)


def a_vault_moves_to_another_cluster_with_all_that_was_stored(
    own_stack: Operator, tmp_path: Path, far: SecondRegion
) -> None:
    device = a_device(own_stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    bucket = device.recovery("main")["bucket"]
    data = ("--data", str(own_stack.data))
    too_early = own_stack.oort.run("bucket", "move", bucket, "--to", far.internal, "--yes", *data)
    assert too_early.code != 0
    follow(own_stack, bucket, far)
    moved = own_stack.oort.ok("bucket", "move", bucket, "--to", far.internal, "--yes", *data)
    assert f"is on cluster {NAME}" in moved.stdout
    device.backup("main", source)
    assert len(device.snapshots("main")) == 2
    device.tool.ok("check", "--vault", "main", "--read-data")
    left = own_stack.oort.ok("bucket", "status", bucket, "--json", *data).json()
    assert left["writes_to"] == NAME
    # Something is stored there by now.
    assert own_stack.oort.run("bucket", "promote", bucket, "--yes", *data).code != 0
    own_stack.oort.ok("bucket", "move", bucket, "--to", far.internal, "--yes", *data)
    own_stack.oort.ok("template", "add", "far away", "--copies", "1", "--cluster", NAME, *data)
    device.request_vault("second", "far away")
    device.backup("second", source)
    assert (far.data / "buckets" / device.recovery("second")["bucket"]).is_dir()
    follows_back_for_a_while(own_stack, device.recovery("second")["bucket"], far)
    device.backup("second", source)
    there = (*data, *far.at)
    assert {one["id"] for one in own_stack.oort.ok("node", "list", "--json", *there).json()} == {NODE}
    assert bucket in {one["id"] for one in own_stack.oort.ok("bucket", "list", "--json", *there).json()}
    assert own_stack.oort.ok("bucket", "scrub", bucket, "--json", *there).json()["damaged"] == 0
    [rescanned] = own_stack.oort.ok("node", "rescan", "--json", *there).json()
    assert (rescanned["entered_objects"], rescanned["left_out"]) == (0, [])
    exported = tmp_path / "exported"
    own_stack.oort.ok("bucket", "export", bucket, str(exported), *data, *far.at)
    assert len(list((exported / "snapshots").iterdir())) == 2


def a_vault_is_used_from_the_other_region_after_the_first_one_burnt(
    own_stack: Operator, tmp_path: Path, far: SecondRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = a_device(own_stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    bucket = device.recovery("main")["bucket"]
    follow(own_stack, bucket, far)
    caught_up(own_stack, bucket, far, snapshots=1)
    (source / "later").write_bytes(os.urandom(1 << 20))
    device.backup("main", source)
    caught_up(own_stack, bucket, far, snapshots=2)
    data = ("--data", str(own_stack.data), *far.at)
    # While the first one answers, that would be two that are written to.
    assert "oort bucket move" in own_stack.oort.run("bucket", "promote", bucket, "--yes", *data).stderr
    burn(own_stack)
    with monkeypatch.context() as impatient:  # that it waits for two minutes is shown elsewhere
        impatient.setattr(store, "PATIENCE_SECONDS", 5.0)
        lost = device.tool.run("snapshots", "--vault", "main")
    assert (lost.code, "no storage node takes the call" in lost.stderr) == (5, True)
    assert "takes backups" in own_stack.oort.ok("bucket", "promote", bucket, "--yes", *data).stdout

    assert len(device.snapshots("main")) == 2
    device.tool.ok("check", "--vault", "main", "--read-data")
    target = tmp_path / "target"
    device.restore("main", target)
    assert (restored(target, source) / "later").read_bytes() == (source / "later").read_bytes()
    assert device.backup("main", source)["files_new"] == 0
    # The same again changes nothing.
    own_stack.oort.ok("bucket", "promote", bucket, "--yes", *data)
    assert len(device.snapshots("main")) == 3
    comes_home(own_stack, bucket, far)
    device.backup("main", source)
    assert len(device.snapshots("main")) == 4
    device.tool.ok("check", "--vault", "main", "--read-data")


def comes_home(operator: Operator, bucket: str, far: SecondRegion) -> None:
    """To the first cluster, which is up again, and has followed in its turn."""
    data = ("--data", str(operator.data))
    nodes = StackFolder.find(operator.data).load().nodes
    for node in nodes:
        operator.oort.ok("stack", "restart", node.name, *data)
    assert "to write to by now" in operator.oort.run("bucket", "promote", bucket, "--yes", *data).stderr
    operator.oort.ok("bucket", "follow", bucket, "--existing", "--from", far.internal, *data)
    completed(operator, bucket)
    operator.oort.ok("bucket", "move", bucket, "--to", nodes[0].internal, "--yes", *data, *far.at)


def follow(operator: Operator, bucket: str, far: SecondRegion) -> None:
    nodes = [node.internal for node in StackFolder.find(operator.data).load().nodes]
    sources = [word for node in nodes for word in ("--from", node)]
    operator.oort.ok("bucket", "follow", bucket, *sources, "--copies", "1", "--data", str(operator.data), *far.at)


def follows_back_for_a_while(operator: Operator, bucket: str, far: SecondRegion) -> None:
    """The stack a vault of the other cluster."""
    data = ("--data", str(operator.data))
    operator.oort.ok("bucket", "follow", bucket, "--from", far.internal, "--copies", "1", *data)
    completed(operator, bucket)
    operator.oort.ok("bucket", "unfollow", bucket, "--yes", *data)
    told = operator.oort.ok("bucket", "status", bucket, "--json", *data).json()
    assert (told["writes_to"], told["following"]) == ("", None)


def caught_up(operator: Operator, bucket: str, far: SecondRegion, *, snapshots: int) -> None:
    """Until so many snapshots are there, and all that they need."""
    end = time.monotonic() + PATIENCE_SECONDS
    there = far.data / "buckets" / bucket / "snapshots"
    while not there.is_dir() or len(list(there.iterdir())) < snapshots or not is_complete(operator, bucket, *far.at):
        assert time.monotonic() < end
        time.sleep(0.2)


def completed(operator: Operator, bucket: str) -> None:
    """Until the stack, which follows, has all."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_complete(operator, bucket):
        assert time.monotonic() < end
        time.sleep(0.2)


def is_complete(operator: Operator, bucket: str, *at: str) -> bool:
    found: dict[str, Any] = operator.oort.ok(
        "bucket", "status", bucket, "--json", "--data", str(operator.data), *at, codes=(0, _FOLLOWS)
    ).json()["following"]
    return bool(found["complete"] and not found["behind_objects"])


def burn(operator: Operator) -> None:
    """The nodes of the stack, and what they have."""
    for node in StackFolder.find(operator.data).load().nodes:
        assert node.process is not None
        process = node.process.find()
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(60)
