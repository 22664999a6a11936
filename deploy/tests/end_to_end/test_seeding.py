"""Vaults on shipped disks: a bucket exported and imported, and a repository of restic's taken in."""

from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored

pytestmark = pytest.mark.needs("restic")


def test_vaults_leave_and_enter_the_cluster_as_folders_of_restic(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    source, data = a_tree(tmp_path / "source"), ("--data", str(stack.data))
    device.backup("main", source)
    main = device.recovery("main")
    moved = stack.oort.ok("bucket", "export", main["bucket"], str(tmp_path / "disk"), "--json", *data).json()
    assert moved["objects"]["snapshots"] == 1
    assert moved["damaged"] == {}
    ours = Restic(tmp_path / "disk", main["password"])
    ours.check()

    # Into a new vault of the account, which finds its key beside the objects.
    device.request_vault("again")
    again = device.recovery("again")["bucket"]
    told = stack.oort.ok("bucket", "import", str(tmp_path / "disk"), again, *data)
    assert "run `backup-tool check`" in told.stdout
    assert [one["id"] for one in device.snapshots("again")] == [one["id"] for one in device.snapshots("main")]
    assert device.backup("again", source)["files_new"] == 0
    device.restore("again", tmp_path / "target")
    assert not list(differences(source, restored(tmp_path / "target", source)))
    # One that restic made, into a vault that was asked for with its password.
    theirs = Restic(tmp_path / "theirs", "made by restic")
    theirs.run("init")
    theirs.run("backup", str(source))
    device.tool.ok(
        *("vault", "request", "--template", "default", "--name", "theirs", "--repository-password-stdin"),
        stdin="made by restic",
    )
    early = device.tool.run("backup", str(source), "--vault", "theirs")
    assert (early.code, "not imported yet" in early.stderr) == (5, True)
    bucket = device.recovery("theirs")["bucket"]
    assert stack.oort.run("bucket", "import", str(source), bucket, *data).code == 2
    stack.oort.ok("bucket", "import", str(tmp_path / "theirs"), bucket, *data)
    refused = stack.oort.run("bucket", "import", str(tmp_path / "disk"), bucket, *data)
    assert (refused.code, "holds another vault" in refused.stderr) == (2, True)
    assert len(device.snapshots("theirs")) == 1
    device.backup("theirs", source)
    device.tool.ok("check", "--vault", "theirs", "--read-data")
    stack.oort.ok("bucket", "export", bucket, str(tmp_path / "theirs-back"), *data)
    Restic(tmp_path / "theirs-back", "made by restic").check()
