"""A vault is a restic repository: restic reads ours, we read restic's."""

from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.end_to_end.waiting import wait_for_copies

pytestmark = pytest.mark.needs("restic")


def test_restic_checks_and_restores_the_copy_on_either_node(stack: Operator, device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    wait_for_copies(stack)
    recovery = device.recovery("main")
    folders = stack.bucket_folders(recovery["bucket"])
    assert len(folders) == 2
    for number, folder in enumerate(folders):
        restic = Restic(folder, recovery["password"], "--no-lock")
        restic.check()
        target = tmp_path / f"by-restic-{number}"
        restic.run("restore", "latest", "--target", str(target))
        assert not list(differences(source, restored(target, source)))


def test_restic_checks_and_restores_a_local_vault(device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    device.tool.ok("vault", "add", "--local", str(tmp_path / "disk"), "--name", "disk")
    device.backup("disk", source)
    recovery = device.recovery("disk")
    restic = Restic(Path(recovery["path"]), recovery["password"])
    restic.check()
    restic.run("restore", "latest", "--target", str(tmp_path / "by-restic"))
    assert not list(differences(source, restored(tmp_path / "by-restic", source)))


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_repository_that_restic_made_is_listed_and_restored(device: Device, tmp_path: Path, version: str) -> None:
    source = a_tree(tmp_path / "source")
    restic = Restic(tmp_path / "repository", "made by restic")
    restic.run("init", "--repository-version", version)
    restic.run("backup", str(source))
    device.tool.ok(
        *("vault", "add", "--local", str(restic.repository), "--name", "theirs", "--repository-password-stdin"),
        stdin="made by restic",
    )
    (snapshot,) = device.snapshots("theirs")
    assert snapshot["paths"] == [str(source)]
    listed = device.tool.ok("ls", snapshot["short_id"], str(source), "--vault", "theirs", "--json").json()
    assert {Path(node["path"]).name for node in listed} >= {"documents", "pictures", "to-letter", "pipe"}
    device.restore("theirs", tmp_path / "by-us")
    assert not list(differences(source, restored(tmp_path / "by-us", source)))


def test_a_wrong_repository_password_is_refused_and_nothing_is_added(device: Device, tmp_path: Path) -> None:
    restic = Restic(tmp_path / "repository", "right")
    restic.run("init")
    refused = device.tool.run(
        *("vault", "add", "--local", str(restic.repository), "--name", "theirs", "--repository-password-stdin"),
        stdin="wrong",
    )
    assert refused.code == 4
    assert [vault["name"] for vault in device.tool.ok("vault", "list", "--json").json()] == ["main"]
