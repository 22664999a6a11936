"""Vaults on shipped disks: a bucket exported and imported, and a repository of restic's taken in."""

import shutil
from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of

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


def test_a_repository_that_was_copied_by_hand_to_a_node_is_adopted_and_used(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    source, data = a_tree(tmp_path / "source"), ("--data", str(stack.data))
    theirs = Restic(tmp_path / "theirs", "made by restic")
    theirs.run("init")
    theirs.run("backup", str(source))
    device.tool.ok(
        *("vault", "request", "--template", "default", "--name", "shipped", "--repository-password-stdin"),
        stdin="made by restic",
    )
    bucket = device.recovery("shipped")["bucket"]
    nothing = stack.oort.run("bucket", "adopt", bucket, *data)
    assert (nothing.code, "no file config" in nothing.stderr) == (2, True)
    # On one node, as `rsync` of a shipped disk leaves it, with one file that it was broken off in.
    disk = next(iter(sorted(stack.data.glob("**/oort-disk.json")))).parent
    folder = disk / "buckets" / bucket
    shutil.copytree(tmp_path / "theirs", folder)
    pack = min(folder.glob("data/*/*"))
    broken_off = pack.with_name(f".{pack.name}.Xy12Zz")
    pack.rename(broken_off)
    told = stack.oort.ok("bucket", "adopt", bucket, "--json", *data, codes=(3,))
    assert "run `backup-tool check`" in told.stderr
    left_out = told.json()["damaged"]
    assert "temporary name" in left_out[f"data/{pack.parent.name}/{broken_off.name}"]
    # What may need that pack waits for it.
    assert {name.partition("/")[0] for name in left_out} == {"data", "index", "snapshots"}
    assert "index" not in told.json()["objects"]
    broken_off.rename(pack)
    again = stack.oort.ok("bucket", "adopt", bucket, *data)
    assert "Entered: 1 pack, 1 index file, 1 snapshot" in again.stdout
    wait_for_copies_of(stack, bucket)

    assert len(device.snapshots("shipped")) == 1
    device.tool.ok("check", "--vault", "shipped", "--read-data")
    device.backup("shipped", source)
    folders = stack.bucket_folders(bucket)
    assert len(folders) == 2
    wait_for_copies_of(stack, bucket)
    for one in folders:
        Restic(one, "made by restic", "--no-lock").check()
    device.restore("shipped", tmp_path / "target")
    assert not list(differences(source, restored(tmp_path / "target", source)))
    assert stack.oort.run("bucket", "adopt", bucket, "--node", "nobody", *data).code == 2
